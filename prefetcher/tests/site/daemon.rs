//! The daemon's binary as a process of the test.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use api::client::Client;
use api::proto::{Image, RequestStatus};
use bundles::bundle::Bundle;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{LONG, Origin, Site, by_chain, until};

const BINARY: &str = env!("CARGO_BIN_EXE_cvmfs-prefetchd");

/// A running daemon; killed when dropped.
pub struct Daemon {
    child: Child,
    pub client: Client,
    log: PathBuf,
}

impl Daemon {
    /// Starts a daemon for `site` and waits until it answers. It may not have opened its cache yet.
    pub async fn start(site: &Site, origins: &[&Origin]) -> Self {
        Self::start_with(site, origins, "").await
    }

    pub async fn start_with(site: &Site, origins: &[&Origin], more: &str) -> Self {
        let config = site.configure(origins, more);
        Self::spawned(site, Command::new(BINARY).arg("--config").arg(&config)).await
    }

    /// Starts a daemon with the configuration `config`.
    pub async fn start_configured(site: &Site, config: &Path) -> Self {
        Self::spawned(site, Command::new(BINARY).arg("--config").arg(config)).await
    }

    /// Starts it by a command that takes its command line as arguments.
    pub async fn start_by(site: &Site, origins: &[&Origin], mut command: Command) -> Self {
        let config = site.configure(origins, "");
        Self::spawned(site, command.arg(BINARY).arg("--config").arg(&config)).await
    }

    async fn spawned(site: &Site, command: &mut Command) -> Self {
        let log = site.path("log");
        let mut daemon = Self {
            child: spawn(command, &log),
            client: Client::connect_lazy(&site.path("prefetchd.sock")).with_timeout(LONG),
            log,
        };
        let started = std::time::Instant::now();
        while let Err(error) = daemon.client.list().await {
            let ended = daemon.child.try_wait().unwrap();
            assert!(ended.is_none() && started.elapsed() < LONG, "{ended:?} {error}\n{}", daemon.log());
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        daemon
    }

    /// Asks for `image` and waits for the end.
    pub async fn prefetch(&self, image: Image) -> RequestStatus {
        let id = self.client.prefetch(image).await.unwrap();
        self.client.wait(id, LONG).await.unwrap()
    }

    pub async fn prefetch_bundle(&self, bundle: &Bundle) -> RequestStatus {
        self.prefetch(by_chain(bundle)).await
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// Waits until it ends by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        until("end of the daemon", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("log of the daemon:\n{}", self.log());
        }
    }
}

fn spawn(command: &mut Command, log: &Path) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(log).unwrap();
    let levels = "debug,h2=info,hyper_util=info,tower=info";
    command.env("RUST_LOG", levels).stdin(Stdio::null()).stderr(log).spawn().unwrap()
}
