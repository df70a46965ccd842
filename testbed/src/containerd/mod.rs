//! A real containerd with runc and CRI, in its own directory.
//!
//! Pods run through [`tracer_ebpf::cri`]. When it stops, nothing is left behind: containers and shims are killed and all mounts
//! below the directory are unmounted.

mod cleanup;
mod config;
mod snapshots;

use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tracer_ebpf::cri::Runtime;

use crate::process::{Daemon, run_command};

pub use snapshots::MountedSnapshot;
pub use snapshots::in_namespace;

/// How long the start of containerd may take.
const READY: Duration = Duration::from_secs(60);

/// Configuration of a containerd.
#[derive(Debug, Clone, Default)]
pub struct ContainerdSpec {
    /// Addresses (`host:port`) of registries that speak plain HTTP.
    pub registries: Vec<String>,
    /// The address at which they are really reached: the near end of a link to the site's registry.
    pub registry_link: Option<SocketAddr>,
    /// Name and socket of a proxy snapshotter. It need not run yet.
    pub snapshotter: Option<(String, PathBuf)>,
    /// Name of the snapshotter that CRI uses; `overlayfs` if empty.
    pub default_snapshotter: String,
    /// Reference of the sandbox image, whose program sleeps forever (Kubernetes' `pause`).
    pub sandbox_image: String,
}

/// A running containerd.
#[derive(Debug)]
pub struct Containerd {
    directory: PathBuf,
    daemon: Option<Daemon>,
}

impl Containerd {
    /// Writes the configuration into `directory`, starts containerd and waits until CRI answers.
    pub async fn start(directory: &Path, spec: &ContainerdSpec) -> Result<Self> {
        std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
        config::write(directory, spec)?;
        let mut this = Self { directory: directory.to_owned(), daemon: None };
        this.run().await?;
        Ok(this)
    }

    async fn run(&mut self) -> Result<()> {
        let mut command = Command::new("containerd");
        command.arg("--config").arg(config::path(&self.directory));
        // runc and shims are found by PATH, which the caller may have changed.
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        let mut daemon = Daemon::start("containerd", &mut command, &self.directory)?;
        let socket = self.socket();
        let begin = Instant::now();
        daemon.wait_until("its socket", READY, || UnixStream::connect(&socket).is_ok())?;
        let daemon = self.daemon.insert(daemon);
        let mut runtime = Runtime::connect(&socket).await?;
        // CRI refuses calls for a moment after the socket exists.
        while !matches!(runtime.is_ready().await, Ok(true)) {
            if begin.elapsed() > READY {
                bail!("CRI was not ready within {READY:?}; containerd's log:\n{}", daemon.log());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// The socket of containerd's own API and of CRI.
    pub fn socket(&self) -> PathBuf {
        config::socket(&self.directory)
    }

    /// A connection to CRI.
    pub async fn cri(&self) -> Result<Runtime> {
        Ok(Runtime::connect(&self.socket()).await?)
    }

    /// containerd's log so far.
    pub fn log(&self) -> String {
        self.daemon.as_ref().map(Daemon::log).unwrap_or_default()
    }

    /// The process ID.
    pub fn pid(&self) -> Option<u32> {
        self.daemon.as_ref().map(Daemon::pid)
    }

    /// Runs `ctr` in CRI's namespace and returns its output.
    pub fn ctr(&self, arguments: &[&str]) -> Result<String> {
        ctr(&self.socket(), arguments)
    }

    /// Restarts containerd. Containers keep running.
    pub async fn restart(&mut self) -> Result<()> {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.stop(Duration::from_secs(20))?;
        }
        self.run().await
    }

    /// Kills all containers, stops containerd and unmounts its mounts. Its files stay.
    pub fn stop(&mut self) -> Result<()> {
        if let Some(mut daemon) = self.daemon.take() {
            let killed = cleanup::kill_containers(&self.socket());
            daemon.stop(Duration::from_secs(20))?;
            killed?;
        }
        cleanup::kill_shims(&self.socket())?;
        cleanup::unmount_below(&self.directory)
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            tracing::warn!(error = format!("{error:#}"), "containerd was not stopped cleanly");
        }
    }
}

fn ctr(socket: &Path, arguments: &[&str]) -> Result<String> {
    run_command(Command::new("ctr").arg("--address").arg(socket).args(["--namespace", "k8s.io"]).args(arguments))
}
