//! Runs a pod with one container, from pull to clean-up.

use std::path::Path;
use std::time::{Duration, Instant};

use super::log::{self, LogOutput};
use super::{ContainerSpec, CriError, Exit, Result, Runtime, Sandbox, SandboxSpec, unique};

/// The duration of each step. All but the last are measured by the client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timings {
    /// PullImage; zero if [`PodSpec::pull`] is not set.
    pub pull: Duration,
    /// RunPodSandbox, which does not depend on the image.
    pub sandbox: Duration,
    /// CreateContainer, in which the snapshotter prepares the root file system.
    pub create: Duration,
    /// StartContainer, in which the OCI runtime sets up the container.
    pub start: Duration,
    /// Run time of the container's first process, by the runtime's clock.
    pub run: Duration,
}

impl Timings {
    /// The sum of all steps except the sandbox.
    pub fn total(&self) -> Duration {
        self.pull + self.create + self.start + self.run
    }
}

/// The result of [`Runtime::run_pod`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The id of the container, which has been removed.
    pub container: String,
    /// The duration of each step.
    pub timings: Timings,
    /// The exit code and run time of the container.
    pub exit: Exit,
    /// The container's output.
    pub output: LogOutput,
}

/// A pod, for [`Runtime::run_pod`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodSpec {
    /// The sandbox. An empty name or uid is replaced by a unique one, an empty namespace by `default`.
    pub sandbox: SandboxSpec,
    /// The container. An empty name is replaced by `main`, an empty log path by one derived from the name.
    pub container: ContainerSpec,
    /// Pull the image first.
    pub pull: bool,
    /// How long the container may run before [`Runtime::run_pod`] fails.
    pub timeout: Duration,
}

impl PodSpec {
    /// A pod on the host's network that pulls `image` and runs `command` in it.
    pub fn new(image: &str, command: &[&str], log_directory: &Path) -> Self {
        let command = command.iter().map(|argument| (*argument).to_owned()).collect();
        Self {
            sandbox: SandboxSpec {
                log_directory: log_directory.to_owned(),
                host_network: true,
                ..SandboxSpec::default()
            },
            container: ContainerSpec { image: image.to_owned(), command: Some(command), ..ContainerSpec::default() },
            pull: true,
            timeout: Duration::from_secs(600),
        }
    }

    fn with_names(&self) -> Self {
        let mut spec = self.clone();
        let default = |text: &mut String, default: &str| {
            if text.is_empty() {
                *text = default.to_owned();
            }
        };
        let unique = unique();
        default(&mut spec.sandbox.name, &format!("pod-{unique}"));
        default(&mut spec.sandbox.uid, &unique);
        default(&mut spec.sandbox.namespace, "default");
        default(&mut spec.container.name, "main");
        let log = format!("{}-{unique}.log", spec.container.name);
        default(&mut spec.container.log_path, &log);
        spec
    }
}

impl Runtime {
    /// Runs a pod until its container ends, and removes the pod, also after an error. If the future is dropped, the pod stays.
    pub async fn run_pod(&mut self, spec: &PodSpec) -> Result<Outcome> {
        let spec = spec.with_names();
        let mut timings = Timings::default();
        if spec.pull {
            let begin = Instant::now();
            self.pull(&spec.container.image).await?;
            timings.pull = begin.elapsed();
        }
        let begin = Instant::now();
        let sandbox = self.run_sandbox(&spec.sandbox).await?;
        timings.sandbox = begin.elapsed();
        let result = self.run_in(&sandbox, &spec, timings).await;
        let cleaned = self.remove_pod(&sandbox.id).await;
        let outcome = result?;
        cleaned?;
        Ok(outcome)
    }

    async fn run_in(&mut self, sandbox: &Sandbox, spec: &PodSpec, mut timings: Timings) -> Result<Outcome> {
        let begin = Instant::now();
        let container = self.create_container(sandbox, &spec.container).await?;
        timings.create = begin.elapsed();
        let begin = Instant::now();
        self.start(&container).await?;
        timings.start = begin.elapsed();
        let exit = self.wait_exit(&container, spec.timeout).await?;
        timings.run = exit.run;
        let log = spec.sandbox.log_directory.join(&spec.container.log_path);
        let text =
            std::fs::read(&log).map_err(|source| CriError::Log { container: container.clone(), path: log, source })?;
        Ok(Outcome { container, timings, exit, output: log::parse(&String::from_utf8_lossy(&text)) })
    }

    /// Stops and removes a sandbox and its containers.
    pub async fn remove_pod(&mut self, sandbox: &str) -> Result<()> {
        self.stop_sandbox(sandbox).await?;
        self.remove_sandbox(sandbox).await
    }
}
