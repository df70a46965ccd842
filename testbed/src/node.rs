//! A worker node: client, prefetch daemon, snapshotter and containerd, each with its own empty caches and stores.

mod cvmfs;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use api::client::Client as DaemonClient;
use api::proto::{RequestState, RequestStatus};
use tracer_ebpf::cri::pod::{Outcome, PodSpec};

use crate::client::Client;
use crate::containerd::{Containerd, ContainerdSpec};
use crate::namespace::{MemoryDirectory, SiteDirectory, cgroup_parent};
use crate::process::{Daemon, binary, run_command};
use crate::site::{FQRN, Site};

pub use cvmfs::{Cvmfs, CvmfsSpec, daemon_client};

/// The snapshotter's name in containerd's configuration.
pub const SNAPSHOTTER: &str = "cvmfs-prefetch";
const PROGRAM: &str = "cvmfs-prefetch-snapshotter";
/// Name of the node's own snapshotter, and of its files.
const NAME: &str = "snapshotter";
const START: Duration = Duration::from_secs(30);
/// How long a prefetch may take to begin, and to end.
const PREFETCH: Duration = Duration::from_secs(120);
const STOP: Duration = Duration::from_secs(20);

/// Parts and configuration of a node.
#[derive(Debug, Clone, Copy)]
pub struct NodeSpec {
    /// Whether the prefetch daemon runs. (The snapshotter is always configured to use it.)
    pub daemon: bool,
    /// CRI uses our snapshotter; otherwise containerd's overlayfs.
    pub snapshotter: bool,
    /// The client and the daemon use the site's squid, if there is one.
    pub proxy: bool,
    /// The snapshotter's wait policy: its configuration's `wait`.
    pub wait: &'static str,
    /// The registry is reached over the site's link, too.
    pub far_registry: bool,
    /// All files of the node are in memory.
    pub in_memory: bool,
}

impl Default for NodeSpec {
    fn default() -> Self {
        Self { daemon: true, snapshotter: true, proxy: true, wait: "none", far_registry: false, in_memory: false }
    }
}

/// A running node. Its parts stop when it is dropped.
#[derive(Debug)]
pub struct Node {
    // Fields are dropped in this order: containers before the mounts they use.
    /// containerd.
    pub containerd: Containerd,
    /// The snapshotter; `None` on nodes without, and while it is stopped.
    pub snapshotter: Option<Daemon>,
    /// The prefetch daemon; `None` on nodes without, and while it is stopped.
    pub daemon: Option<Daemon>,
    /// The CVMFS client.
    pub client: Client,
    directory: SiteDirectory,
    sandbox_image: String,
    /// The client's cache on its own file system: see `docs/src/snapshotter.md`, "Which file system".
    _cache: Option<MemoryDirectory>,
    _memory: Option<MemoryDirectory>,
}

impl Node {
    /// Starts a node named `name` at `site`.
    pub async fn start(site: &Site, name: &str, spec: NodeSpec) -> Result<Self> {
        let memory = if spec.in_memory { Some(MemoryDirectory::new(name)?) } else { None };
        let cache = if spec.in_memory { Some(MemoryDirectory::new(&format!("{name}/cache"))?) } else { None };
        let directory = match &memory {
            Some(memory) => memory.directory().clone(),
            None => SiteDirectory::new(name)?,
        };
        let proxy = site.proxy().filter(|_| spec.proxy);
        let cvmfs_spec = CvmfsSpec { daemon: spec.daemon, proxy, ..CvmfsSpec::default() };
        let Cvmfs { daemon, client } = Cvmfs::start(site, &directory, &cvmfs_spec)?;
        configure_snapshotter(&directory, NAME, Some(&cvmfs::socket_of(directory.path())), spec.wait)?;
        let snapshotter = if spec.snapshotter { Some(start(&directory, PROGRAM, NAME)?) } else { None };
        let containerd = Containerd::start(
            &directory.path().join("containerd"),
            &ContainerdSpec {
                registries: vec![site.registry.address().to_owned()],
                registry_link: spec.far_registry.then(|| site.far_registry()),
                snapshotter: Some((SNAPSHOTTER.to_owned(), directory.path().join("snapshotter.sock"))),
                default_snapshotter: if spec.snapshotter { SNAPSHOTTER.to_owned() } else { String::new() },
                sandbox_image: site.sandbox_image().to_owned(),
            },
        )
        .await?;
        // On a cluster's node the sandbox image is always present.
        containerd.cri().await?.pull(site.sandbox_image()).await?;
        let sandbox_image = site.sandbox_image().to_owned();
        Ok(Self { containerd, snapshotter, daemon, client, directory, sandbox_image, _cache: cache, _memory: memory })
    }

    /// The client's cache directory.
    pub fn cache(&self) -> PathBuf {
        cvmfs::cache_of(&self.directory)
    }

    /// Directory for files of this node.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Pulls `image`, as a kubelet does before it starts a pod.
    pub async fn pull(&self, image: &str) -> Result<()> {
        let pulled = self.containerd.cri().await?.pull(image).await;
        pulled.map(drop).with_context(|| format!("the snapshotter's log:\n{}", self.snapshotter_log()))
    }

    /// Runs `command` in `image` in a pod, as a kubelet would, until it exits.
    pub async fn run(&self, image: &str, command: &[&str]) -> Result<Outcome> {
        self.run_pod(&self.pod(image, command)?).await
    }

    /// The pod that [`Node::run`] runs, for tests that change it first.
    pub fn pod(&self, image: &str, command: &[&str]) -> Result<PodSpec> {
        let mut pod = PodSpec::new(image, command, &self.directory.subdirectory("pods")?);
        pod.sandbox.cgroup_parent = cgroup_parent();
        Ok(pod)
    }

    /// Runs a pod until its container exits.
    pub async fn run_pod(&self, pod: &PodSpec) -> Result<Outcome> {
        let outcome = self.containerd.cri().await?.run_pod(pod).await;
        let (command, image) = (&pod.container.command, &pod.container.image);
        outcome.with_context(|| format!("{command:?} in {image}; the snapshotter's log:\n{}", self.snapshotter_log()))
    }

    /// Like [`Node::run`], for commands that must succeed; returns their standard output.
    pub async fn output(&self, image: &str, command: &[&str]) -> Result<String> {
        let outcome = self.run(image, command).await?;
        ensure!(outcome.exit.code == 0, "{command:?} in {image} ended with {outcome:?}");
        Ok(outcome.output.stdout)
    }

    /// Names (`<2 hex>/<38 hex>`) and contents of the objects in the cache, without temporary files.
    pub fn cached(&self) -> Result<BTreeMap<String, Vec<u8>>> {
        let mut objects = BTreeMap::new();
        for directory in std::fs::read_dir(self.cache())?.collect::<Result<Vec<_>, _>>()? {
            let name = directory.file_name().to_string_lossy().into_owned();
            if name.len() != 2 || !directory.file_type()?.is_dir() {
                continue;
            }
            for object in std::fs::read_dir(directory.path())?.collect::<Result<Vec<_>, _>>()? {
                let path = format!("{name}/{}", object.file_name().to_string_lossy());
                objects.insert(path, std::fs::read(object.path())?);
            }
        }
        Ok(objects)
    }

    /// Records `command` in `image` with `cvmfs-prefetch record`; returns the path of the trace.
    pub fn record(&self, image: &str, command: &[&str]) -> Result<PathBuf> {
        self.record_as("container", image, command, &[])
    }

    /// Like [`Node::record`], with a name for the trace and further options.
    pub fn record_as(&self, name: &str, image: &str, command: &[&str], options: &[&str]) -> Result<PathBuf> {
        let trace = self.directory.path().join(format!("{name}.trace"));
        let mut record = Command::new(binary("cvmfs-prefetch")?);
        record.args(["record", image, "--output"]).arg(&trace).arg("--cri-socket").arg(self.containerd.socket());
        record
            // A killed recorder leaves its pod's directory there.
            .env("TMPDIR", self.directory.path())
            .args(["--cgroup-parent", &cgroup_parent(), "--timeout", "120s"])
            .args(options)
            .arg("--")
            .args(command);
        run_command(&mut record)?;
        Ok(trace)
    }

    /// A client of this node's prefetch daemon.
    pub fn prefetch(&self) -> DaemonClient {
        cvmfs::daemon_client(self.directory.path())
    }

    /// Waits until the daemon has received the request that the pull of `image` causes, and all requests have ended; returns
    /// them, the newest first, without those for the sandbox image.
    pub async fn wait_for_prefetch(&self, image: &str) -> Result<Vec<RequestStatus>> {
        let end = Instant::now() + PREFETCH;
        loop {
            let mut requests = self.finished_requests().await?;
            let reference = |request: &RequestStatus| request.image.clone().unwrap_or_default().reference;
            if requests.iter().any(|request| reference(request) == image) {
                // The request for the start of a container names its image by chain ID only.
                requests.retain(|request| reference(request) != self.sandbox_image);
                return Ok(requests);
            }
            if Instant::now() > end {
                let daemon = self.daemon.as_ref().map(Daemon::log).unwrap_or_default();
                bail!(
                    "no prefetch request for {image}; the snapshotter's log:\n{}\nthe daemon's log:\n{daemon}",
                    self.snapshotter_log()
                );
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until all requests that the daemon has received so far have ended; returns them, the newest first.
    pub async fn finished_requests(&self) -> Result<Vec<RequestStatus>> {
        let client = self.prefetch();
        loop {
            let requests = client.list().await?.requests;
            let Some(running) = requests.iter().find(|request| request.state() == RequestState::Running) else {
                return Ok(requests);
            };
            client.wait(running.request_id, PREFETCH).await?;
        }
    }

    /// Starts the prefetch daemon (again).
    pub fn start_daemon(&mut self) -> Result<()> {
        self.daemon = Some(cvmfs::start_daemon(&self.directory)?);
        Ok(())
    }

    /// Stops the snapshotter and starts it again, as an upgrade does.
    pub fn restart_snapshotter(&mut self) -> Result<()> {
        if let Some(mut old) = self.snapshotter.take() {
            let status = old.stop(STOP)?;
            ensure!(status.success(), "the snapshotter ended with {status}:\n{}", old.log());
        }
        self.snapshotter = Some(start(&self.directory, PROGRAM, NAME)?);
        Ok(())
    }

    /// Starts another snapshotter that containerd does not know; returns its process and its socket. `name` is the name of
    /// its files.
    pub fn start_snapshotter(&self, name: &str, prefetch_socket: Option<&Path>) -> Result<(Daemon, PathBuf)> {
        configure_snapshotter(&self.directory, name, prefetch_socket, "none")?;
        let daemon = start(&self.directory, PROGRAM, name)?;
        Ok((daemon, self.directory.path().join(format!("{name}.sock"))))
    }

    /// Root directory of the snapshotter `name`, with its metadata and snapshots.
    pub fn snapshotter_root(&self, name: &str) -> PathBuf {
        self.directory.path().join(format!("{name}-root"))
    }

    /// Socket of the prefetch daemon.
    pub fn prefetch_socket(&self) -> PathBuf {
        cvmfs::socket_of(self.directory.path())
    }

    /// The snapshotter's log so far.
    pub fn snapshotter_log(&self) -> String {
        self.snapshotter.as_ref().map(Daemon::log).unwrap_or_default()
    }
}

fn configure_snapshotter(
    directory: &SiteDirectory,
    name: &str,
    prefetch_socket: Option<&Path>,
    wait: &str,
) -> Result<()> {
    let file = |suffix: &str| directory.path().join(format!("{name}{suffix}"));
    let prefetch = prefetch_socket.map_or_else(String::new, |socket| format!("prefetch_socket = {socket:?}\n"));
    let configuration = format!(
        "socket = {:?}\nroot = {:?}\nwait = {wait:?}\n{prefetch}[[repositories]]\nname = {FQRN:?}\nmount = {:?}\n",
        file(".sock"),
        file("-root"),
        cvmfs::mount_of(directory),
    );
    Ok(std::fs::write(file(".toml"), configuration)?)
}

/// Starts one of our daemons and waits until its socket accepts connections.
fn start(directory: &SiteDirectory, program: &str, name: &str) -> Result<Daemon> {
    let config = format!("{name}.toml");
    let socket = format!("{name}.sock");
    let mut command = Command::new(binary(program)?);
    command.arg("--config").arg(directory.path().join(config)).env("RUST_LOG", "info");
    // As in the daemon's systemd unit.
    command.env("MALLOC_ARENA_MAX", "1");
    let mut daemon = Daemon::start(name, &mut command, &directory.subdirectory("log")?)?;
    let socket = directory.path().join(socket);
    daemon.wait_until("its socket", START, || std::os::unix::net::UnixStream::connect(&socket).is_ok())?;
    Ok(daemon)
}
