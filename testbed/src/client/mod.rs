//! A CVMFS client for tests: a read-only FUSE mount of a repository, in its own process.
//!
//! It imitates the stock client where the project depends on it: the cache directory (names, decompressed content, no second
//! verification), the requests (kept-alive connections, at most 16, one download per object, catalogs before files) and the
//! extended attributes. Signatures and catalogs are read with the crate `cvmfs`, which shares no code with our publisher and
//! builder, so it tests both independently.
//!
//! ```text
//! kernel -> filesystem -> inodes -> tree (catalogs) -> objects -> cache
//!                    \-> open_file ------------------>/      \-> download -> proxy or server
//! ```
//!
//! Limits: names must be UTF-8 (the crate's limit), no extended attributes of files, hard links have separate inodes, no quota;
//! it loads several catalogs at a time, where the stock client loads one.

mod cache;
mod control;
mod download;
mod entry;
mod filesystem;
mod inodes;
mod native;
mod objects;
mod open_file;
mod root;
mod serve;
mod tree;
mod xattr;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::process::{Daemon, binary};

pub use download::Statistics;
pub use native::NativeBundle;
pub use serve::{ServeOptions, serve};

/// The program that serves a mount.
const PROGRAM: &str = "testbed-client";
/// How long a mount and an unmount may take.
const LIMIT: Duration = Duration::from_secs(30);

/// Parameters of a mount.
#[derive(Debug, Clone)]
pub struct ClientSpec {
    /// Mount point; created if missing.
    pub mount_point: PathBuf,
    /// The cache directory (`<cache>/<2 hex>/<38 hex>`, `<cache>/txn`); created if missing.
    pub cache: PathBuf,
    /// The repository's URL, up to the repository's name.
    pub url: String,
    /// A forward proxy's URL.
    pub proxy: Option<String>,
    /// The file of the repository's public master key.
    pub public_key: PathBuf,
    /// Directory of the log and the control socket.
    pub run_directory: PathBuf,
}

/// A mounted repository; unmounted (lazily) when dropped.
#[derive(Debug)]
pub struct Client {
    daemon: Daemon,
    mount_point: PathBuf,
    control: PathBuf,
    spec: ClientSpec,
}

impl Client {
    /// Mounts and waits until the mount responds.
    pub fn start(spec: &ClientSpec) -> Result<Self> {
        for directory in [&spec.mount_point, &spec.cache, &spec.run_directory] {
            std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
        }
        let control = spec.run_directory.join("client.sock");
        let daemon = run(spec, &control)?;
        Ok(Self { daemon, mount_point: spec.mount_point.clone(), control, spec: spec.clone() })
    }

    /// Unmounts the mount of a killed client, as automount does, and mounts again.
    pub fn restart(&mut self) -> Result<()> {
        umount2(&self.mount_point, MntFlags::MNT_DETACH)
            .with_context(|| format!("cannot unmount {}", self.mount_point.display()))?;
        self.daemon = run(&self.spec, &self.control)?;
        Ok(())
    }

    /// Where the repository is mounted.
    pub fn mount_point(&self) -> &Path {
        &self.mount_point
    }

    /// ID of the process that serves the mount.
    pub fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    /// The client's log so far.
    pub fn log(&self) -> String {
        self.daemon.log()
    }

    /// Counts of the client's requests.
    pub fn statistics(&self) -> Result<Statistics> {
        Ok(serde_json::from_str(&control::send(&self.control, control::STATISTICS)?)?)
    }

    /// Makes the client fetch a bundle's files as soon as its trigger is opened.
    pub fn arm(&self, bundle: &NativeBundle) -> Result<()> {
        let query = format!("{} {}", control::ARM, serde_json::to_string(bundle)?);
        control::send(&self.control, &query).map(drop)
    }

    /// Makes the client load a new revision of the repository; returns the mounted revision.
    pub fn reload(&self) -> Result<u64> {
        Ok(control::send(&self.control, control::REMOUNT)?.trim().parse()?)
    }

    /// Unmounts; fails if something is open or mounted there.
    pub fn unmount(mut self) -> Result<()> {
        umount2(&self.mount_point, MntFlags::empty())
            .with_context(|| format!("cannot unmount {}", self.mount_point.display()))?;
        let end = Instant::now() + LIMIT;
        let process = Path::new("/proc").join(self.pid().to_string());
        let is_running = || std::fs::read_to_string(process.join("stat")).is_ok_and(|stat| !stat.contains(") Z "));
        while is_running() {
            if Instant::now() > end {
                bail!("the client did not end after its unmount; its log:\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        self.daemon.stop(LIMIT).map(drop)
    }

    /// Kills the client; its mount point then answers "transport endpoint is not connected".
    pub fn kill(&mut self) -> Result<()> {
        self.daemon.kill().map(drop)
    }

    /// Stops the client (SIGSTOP): every access to the mount that is not cached by the kernel hangs.
    pub fn hang(&self) -> Result<()> {
        Ok(kill(Pid::from_raw(self.pid() as i32), Signal::SIGSTOP)?)
    }

    /// Continues a stopped client.
    pub fn resume(&self) -> Result<()> {
        Ok(kill(Pid::from_raw(self.pid() as i32), Signal::SIGCONT)?)
    }
}

fn run(spec: &ClientSpec, control: &Path) -> Result<Daemon> {
    let mut command = Command::new(binary(PROGRAM)?);
    command.arg("--mount").arg(&spec.mount_point).arg("--cache").arg(&spec.cache);
    command.arg("--url").arg(&spec.url).arg("--public-key").arg(&spec.public_key).arg("--control").arg(control);
    if let Some(proxy) = &spec.proxy {
        command.arg("--proxy").arg(proxy);
    }
    let mut daemon = Daemon::start(PROGRAM, &mut command, &spec.run_directory)?;
    daemon.wait_until("mounting", LIMIT, || control::send(control, control::STATISTICS).is_ok())?;
    Ok(daemon)
}

impl Drop for Client {
    fn drop(&mut self) {
        // Not an error: it may have been unmounted. A hung client must not keep the stop waiting.
        let _ = umount2(&self.mount_point, MntFlags::MNT_DETACH);
        let _ = self.daemon.kill();
    }
}
