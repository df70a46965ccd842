//! A worker node: client, prefetch daemon, snapshotter and containerd, each with empty caches and stores of its own.

mod cvmfs;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use prefetcher::api::{RequestState, RequestStatus};
use prefetcher::client::Client as DaemonClient;
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
/// The name of the node's own among its files.
const NAME: &str = "snapshotter";
const START: Duration = Duration::from_secs(30);
const STOP: Duration = Duration::from_secs(20);

/// Which parts of a node are there.
#[derive(Debug, Clone, Copy)]
pub struct NodeSpec {
    /// The prefetch daemon runs. (The snapshotter asks for it in any case.)
    pub daemon: bool,
    /// CRI uses our snapshotter, else containerd's overlayfs.
    pub snapshotter: bool,
    /// It reaches the repository through the site's squid, if there is one.
    pub proxy: bool,
    /// Whether containers wait for their prefetch: the snapshotter's `wait`.
    pub wait: &'static str,
    /// It reaches the registry over the site's line, too.
    pub far_registry: bool,
    /// All of its files are in memory, and gone with it.
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
    // In the order in which they stop: containers before the mounts that they stand on.
    /// containerd.
    pub containerd: Containerd,
    /// The snapshotter; absent on nodes without, and while it is stopped.
    pub snapshotter: Option<Daemon>,
    /// The prefetch daemon; absent on nodes without, and while it is stopped.
    pub daemon: Option<Daemon>,
    /// The CVMFS client.
    pub client: Client,
    directory: SiteDirectory,
    sandbox_image: String,
    /// The client's cache on a file system of its own: see `docs/src/snapshotter.md`, "Which file system".
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
        let of_cvmfs = CvmfsSpec { daemon: spec.daemon, proxy, ..CvmfsSpec::default() };
        let Cvmfs { daemon, client } = Cvmfs::start(site, &directory, &of_cvmfs)?;
        configure_snapshotter(&directory, NAME, Some(&cvmfs::socket_of(directory.path())), spec.wait)?;
        let snapshotter = if spec.snapshotter { Some(start(&directory, PROGRAM, NAME)?) } else { None };
        let containerd = Containerd::start(
            &directory.path().join("containerd"),
            &ContainerdSpec {
                registries: vec![site.registry.address().to_owned()],
                registry_line: spec.far_registry.then(|| site.far_registry()),
                snapshotter: Some((SNAPSHOTTER.to_owned(), directory.path().join("snapshotter.sock"))),
                default_snapshotter: if spec.snapshotter { SNAPSHOTTER.to_owned() } else { String::new() },
                sandbox_image: site.sandbox_image().to_owned(),
            },
        )
        .await?;
        // A node of a cluster has its sandbox image.
        containerd.cri().await?.pull(site.sandbox_image()).await?;
        let sandbox_image = site.sandbox_image().to_owned();
        Ok(Self { containerd, snapshotter, daemon, client, directory, sandbox_image, _cache: cache, _memory: memory })
    }

    /// The cache directory of the client.
    pub fn cache(&self) -> PathBuf {
        cvmfs::cache_of(&self.directory)
    }

    /// Where files for and of this node can be put.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Pulls `image` as a kubelet does before it starts a pod.
    pub async fn pull(&self, image: &str) -> Result<()> {
        let pulled = self.containerd.cri().await?.pull(image).await;
        pulled.map(drop).with_context(|| format!("the snapshotter's log:\n{}", self.snapshotter_log()))
    }

    /// Runs `command` in `image` as a kubelet would, and waits for its end.
    pub async fn run(&self, image: &str, command: &[&str]) -> Result<Outcome> {
        self.run_pod(&self.pod(image, command)?).await
    }

    /// What [`Node::run`] runs, to be changed before.
    pub fn pod(&self, image: &str, command: &[&str]) -> Result<PodSpec> {
        let mut pod = PodSpec::new(image, command, &self.directory.subdirectory("pods")?);
        pod.sandbox.cgroup_parent = cgroup_parent();
        Ok(pod)
    }

    /// Runs a pod to its end.
    pub async fn run_pod(&self, pod: &PodSpec) -> Result<Outcome> {
        let outcome = self.containerd.cri().await?.run_pod(pod).await;
        let (command, image) = (&pod.container.command, &pod.container.image);
        outcome.with_context(|| format!("{command:?} in {image}; the snapshotter's log:\n{}", self.snapshotter_log()))
    }

    /// Like [`Node::run`], for commands that must succeed; what they wrote to standard output.
    pub async fn output(&self, image: &str, command: &[&str]) -> Result<String> {
        let outcome = self.run(image, command).await?;
        ensure!(outcome.exit.code == 0, "{command:?} in {image} ended with {outcome:?}");
        Ok(outcome.output.stdout)
    }

    /// The cache's objects: their names (`<2 hex>/<38 hex>`) and contents, temporary files apart.
    pub fn cached(&self) -> Result<BTreeMap<String, Vec<u8>>> {
        let mut objects = BTreeMap::new();
        for shelf in std::fs::read_dir(self.cache())?.collect::<Result<Vec<_>, _>>()? {
            let name = shelf.file_name().to_string_lossy().into_owned();
            if name.len() != 2 || !shelf.file_type()?.is_dir() {
                continue;
            }
            for object in std::fs::read_dir(shelf.path())?.collect::<Result<Vec<_>, _>>()? {
                let path = format!("{name}/{}", object.file_name().to_string_lossy());
                objects.insert(path, std::fs::read(object.path())?);
            }
        }
        Ok(objects)
    }

    /// Records `command` in `image` with the command line; where the trace is.
    pub fn record(&self, image: &str, command: &[&str]) -> Result<PathBuf> {
        self.record_as("container", image, command, &[])
    }

    /// Records it as the trace `name`, with further options.
    pub fn record_as(&self, name: &str, image: &str, command: &[&str], options: &[&str]) -> Result<PathBuf> {
        let trace = self.directory.path().join(format!("{name}.trace"));
        let mut record = Command::new(binary("cvmfs-prefetch")?);
        record.args(["record", image, "--output"]).arg(&trace).arg("--cri-socket").arg(self.containerd.socket());
        record
            // A recorder that is killed leaves its pod's directory.
            .env("TMPDIR", self.directory.path())
            .args(["--cgroup-parent", &cgroup_parent(), "--time-limit", "120s"])
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

    /// Waits until all of the daemon's requests have ended; these, the newest first, less those for the sandbox image.
    pub async fn prefetched(&self) -> Result<Vec<RequestStatus>> {
        let client = self.prefetch();
        for request in client.list().await?.requests {
            if request.state() == RequestState::Running {
                client.wait(request.request_id, Duration::from_secs(120)).await?;
            }
        }
        let mut requests = client.list().await?.requests;
        requests.retain(|request| request.image.as_ref().is_none_or(|image| image.reference != self.sandbox_image));
        Ok(requests)
    }

    /// Starts the prefetch daemon (again).
    pub fn start_daemon(&mut self) -> Result<()> {
        self.daemon = Some(cvmfs::start_daemon(&self.directory)?);
        Ok(())
    }

    /// Stops the snapshotter as an upgrade does, and starts it again.
    pub fn restart_snapshotter(&mut self) -> Result<()> {
        if let Some(mut old) = self.snapshotter.take() {
            let status = old.stop(STOP)?;
            ensure!(status.success(), "the snapshotter ended with {status}:\n{}", old.log());
        }
        self.snapshotter = Some(start(&self.directory, PROGRAM, NAME)?);
        Ok(())
    }

    /// Starts another snapshotter beside the node's own, which containerd does not know; it and its socket. Its files
    /// are called `name`.
    pub fn start_plugin(&self, name: &str, prefetch_socket: Option<&Path>) -> Result<(Daemon, PathBuf)> {
        configure_snapshotter(&self.directory, name, prefetch_socket, "none")?;
        let daemon = start(&self.directory, PROGRAM, name)?;
        Ok((daemon, self.directory.path().join(format!("{name}.sock"))))
    }

    /// Where the snapshotter `name` keeps its metadata and snapshots.
    pub fn plugin_root(&self, name: &str) -> PathBuf {
        self.directory.path().join(format!("{name}-root"))
    }

    /// Where the prefetch daemon listens, if it runs.
    pub fn prefetch_socket(&self) -> PathBuf {
        cvmfs::socket_of(self.directory.path())
    }

    /// The snapshotter's log.
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
    let at = |end: &str| directory.path().join(format!("{name}{end}"));
    let hints = prefetch_socket.map_or_else(String::new, |socket| format!("prefetch_socket = {socket:?}\n"));
    let configuration = format!(
        "socket = {:?}\nroot = {:?}\nwait = {wait:?}\n{hints}[[repositories]]\nname = {FQRN:?}\nmount = {:?}\n",
        at(".sock"),
        at("-root"),
        cvmfs::mount_of(directory),
    );
    Ok(std::fs::write(at(".toml"), configuration)?)
}

/// Starts one of our daemons and waits until its socket answers.
fn start(directory: &SiteDirectory, program: &str, name: &str) -> Result<Daemon> {
    let (config, socket) = (format!("{name}.toml"), format!("{name}.sock"));
    let mut command = Command::new(binary(program)?);
    command.arg("--config").arg(directory.path().join(config)).env("RUST_LOG", "info");
    // As in the daemon's unit.
    command.env("MALLOC_ARENA_MAX", "1");
    let mut daemon = Daemon::start(name, &mut command, &directory.subdirectory("log")?)?;
    let socket = directory.path().join(socket);
    daemon.wait_until("its socket", START, || std::os::unix::net::UnixStream::connect(&socket).is_ok())?;
    Ok(daemon)
}
