//! The pod of a recording: one container, its cgroup and its log, all removed at the end.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use std::{fs, process};

use anyhow::{Context, Result};
use bundles::image::ImageId;
use tracer_ebpf::cgroup::{Cgroup, Hierarchy, Leftovers};
use tracer_ebpf::cri::{ContainerSpec, Runtime, Sandbox, SandboxSpec, log};

use crate::output::Notes;
use crate::recording::attach::image_id;
use crate::recording::until::{self, exit_code};

/// The container's log in the pod's log directory.
const LOG: &str = "recorded.log";
/// How many lines of the container's output are shown.
const OUTPUT_LINES: usize = 20;

/// A pod of this program. The caller must call [`Pod::remove`], also after an error.
pub(crate) struct Pod {
    runtime: Runtime,
    spec: SandboxSpec,
    sandbox: Option<Sandbox>,
    container: String,
    cgroup: Option<Cgroup>,
    _leftovers: Leftovers,
}

impl Pod {
    /// Prepares a pod in a cgroup of its own below `cgroup_parent`; the recorder may freeze all of that cgroup.
    pub(crate) fn new(runtime: Runtime, cgroup_parent: &Path) -> Result<Self> {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let uid = format!("cvmfs-prefetch-record-{}-{}", process::id(), since.as_nanos());
        let cgroup_parent = cgroup_parent.join(&uid);
        let _leftovers = Leftovers::note(&cgroup_parent)?;
        let spec = SandboxSpec {
            name: "record".into(),
            namespace: "cvmfs-prefetch".into(),
            log_directory: std::env::temp_dir().join(&uid),
            uid,
            cgroup_parent: cgroup_parent.display().to_string(),
            host_network: true,
            ..SandboxSpec::default()
        };
        Ok(Self { runtime, spec, sandbox: None, container: String::new(), cgroup: None, _leftovers })
    }

    /// Pulls the image if this node does not have it, and returns its names.
    pub(crate) async fn pull_if_missing(&mut self, reference: &str, notes: Notes) -> Result<ImageId> {
        if self.runtime.image_status(reference).await?.is_none() {
            notes.print(format_args!("pulling {reference}"));
            self.runtime.pull(reference).await?;
        }
        image_id(&mut self.runtime, reference).await
    }

    /// Creates the pod, the container (not started), and the cgroup that the container will join. Returns the cgroup's
    /// directory.
    pub(crate) async fn create(&mut self, hierarchy: &Hierarchy, container: ContainerSpec) -> Result<PathBuf> {
        let container = ContainerSpec { name: "recorded".into(), log_path: LOG.into(), ..container };
        let logs = &self.spec.log_directory;
        fs::create_dir_all(logs).with_context(|| format!("cannot create the log directory {}", logs.display()))?;
        let sandbox = self.sandbox.insert(self.runtime.run_sandbox(&self.spec).await?);
        self.container = self.runtime.create_container(sandbox, &container).await?;
        let cgroup = Cgroup::create(hierarchy, &Path::new(&self.spec.cgroup_parent).join(&self.container))?;
        Ok(self.cgroup.insert(cgroup).path().to_owned())
    }

    pub(crate) async fn start(&mut self) -> Result<()> {
        Ok(self.runtime.start(&self.container).await?)
    }

    /// Waits for the exit of the container's main process, and returns the exit code.
    pub(crate) async fn exited(&mut self) -> Result<u32> {
        exit_code(&mut self.runtime, &self.container).await
    }

    /// The container, as the runtime knows it.
    pub(crate) async fn container(&self) -> Result<until::Container> {
        let mut runtime = self.runtime.clone();
        let container =
            runtime.container(&self.container).await?.context("the recorded container was removed by somebody else")?;
        Ok(until::Container { runtime, container })
    }

    /// Sends SIGTERM, and SIGKILL after `grace`. Succeeds also if the container has exited.
    pub(crate) async fn stop(&mut self, grace: Duration) -> Result<()> {
        Ok(self.runtime.stop(&self.container, grace).await?)
    }

    /// The file to which the runtime writes the output of the container.
    fn log(&self) -> PathBuf {
        self.spec.log_directory.join(LOG)
    }

    /// The last lines of the container's standard error, or of its standard output if there are none.
    pub(crate) fn output(&self) -> String {
        let log = fs::read(self.log()).unwrap_or_default();
        let output = log::parse(&String::from_utf8_lossy(&log));
        let text = if output.stderr.is_empty() { output.stdout } else { output.stderr };
        let mut lines: Vec<_> = text.lines().rev().take(OUTPUT_LINES).collect();
        lines.reverse();
        lines.iter().map(|line| format!("  {line}\n")).collect()
    }

    /// Removes the pod, container, cgroup and logs, all of them also after an error.
    pub(crate) async fn remove(&mut self) -> Result<()> {
        let removed = match self.sandbox.take() {
            Some(sandbox) => self.runtime.remove_pod(&sandbox.id).await,
            None => Ok(()),
        };
        self.cgroup = None;
        if let Err(error) = fs::remove_dir_all(&self.spec.log_directory) {
            tracing::debug!(%error, directory = %self.spec.log_directory.display(), "cannot remove the log directory");
        }
        Ok(removed?)
    }
}
