//! A real squid as a site's forward proxy: on loopback, with a cache in memory.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::unistd::{User, chown};

use crate::process::Daemon;

/// The user that Debian's squid runs as.
const USER: &str = "proxy";

/// A running proxy; stops when dropped.
#[derive(Debug)]
pub struct Squid {
    address: SocketAddr,
    directory: PathBuf,
    daemon: Daemon,
}

impl Squid {
    /// Starts a squid that keeps its files in `directory` (created if missing; its parents must be accessible to all users).
    /// Clients request URLs of a [`LinkEmulator`](super::LinkEmulator) through it, so squid itself fetches over the link.
    pub fn start(directory: &Path) -> Result<Self> {
        std::fs::create_dir_all(directory)?;
        let user = User::from_name(USER)?.with_context(|| format!("no user {USER:?}: is squid installed?"))?;
        chown(directory, Some(user.uid), Some(user.gid))?;
        // squid takes no port 0. The port is free now and nobody else here binds ports by number.
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let configuration = directory.join("squid.conf");
        std::fs::write(&configuration, configure(address, directory))?;
        let mut command = Command::new("squid");
        command.arg("-N").arg("-f").arg(&configuration);
        let mut daemon = Daemon::start("squid", &mut command, directory)?;
        daemon.wait_until("accepting connections", Duration::from_secs(30), || TcpStream::connect(address).is_ok())?;
        Ok(Self { address, directory: directory.to_owned(), daemon })
    }

    /// Its listening address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL, as in a client's configuration.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its access log so far.
    pub fn access_log(&self) -> String {
        std::fs::read_to_string(self.directory.join("access.log")).unwrap_or_default()
    }

    /// Kills it with SIGKILL.
    pub fn kill(&mut self) -> Result<()> {
        self.daemon.kill().map(drop)
    }
}

fn configure(address: SocketAddr, directory: &Path) -> String {
    let directory = directory.display();
    format!(
        "http_port {address}
http_access allow localhost
http_access deny all
visible_hostname localhost
cache_effective_user {USER}
cache_mem 256 MB
maximum_object_size 1024 MB
maximum_object_size_in_memory 256 MB
minimum_expiry_time 0 seconds
collapsed_forwarding on
memory_cache_shared off
pid_filename {directory}/squid.pid
access_log stdio:{directory}/access.log
cache_log {directory}/cache.log
coredump_dir {directory}
netdb_filename none
pinger_enable off
buffered_logs off
shutdown_lifetime 0 seconds
"
    )
}
