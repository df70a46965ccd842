//! One pod with one container, from pull to clean-up.

use std::path::Path;
use std::time::{Duration, Instant};

use super::log::{self, Output};
use super::{ContainerSpec, CriError, Exit, Result, Runtime, Sandbox, SandboxSpec, unique};

/// How long each step took, as seen from here but for the last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timings {
    /// PullImage. Nothing if the image was not to be pulled.
    pub pull: Duration,
    /// RunPodSandbox: the same for every image.
    pub sandbox: Duration,
    /// CreateContainer.
    pub create: Duration,
    /// StartContainer.
    pub start: Duration,
    /// From the start of the container's first process to its end, by the runtime's clock.
    pub run: Duration,
}

impl Timings {
    /// From pull to end, without the sandbox.
    pub fn total(&self) -> Duration {
        self.pull + self.create + self.start + self.run
    }
}

/// What became of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Id of the container, which is gone.
    pub container: String,
    /// How long each step took.
    pub timings: Timings,
    /// How the container ended.
    pub exit: Exit,
    /// What it wrote.
    pub output: Output,
}

/// A pod to be run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodSpec {
    /// Its sandbox. An empty name or uid is replaced by a unique one, an empty namespace by `default`.
    pub sandbox: SandboxSpec,
    /// Its container. An empty name is replaced by `main`, an empty log path by the container's name.
    pub container: ContainerSpec,
    /// Pulls the image first.
    pub pull: bool,
    /// How long the container may run.
    pub limit: Duration,
}

impl PodSpec {
    /// A pod on the host's network that runs `command` in `image`, pulled before.
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
            limit: Duration::from_secs(600),
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
    /// Runs a pod to its end and removes it, also after an error. (Not if the returned future is dropped before.)
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
        let exit = self.wait_exit(&container, spec.limit).await?;
        timings.run = exit.run;
        let log = spec.sandbox.log_directory.join(&spec.container.log_path);
        let text = std::fs::read(&log).map_err(|error| CriError::Answer {
            call: "StartContainer",
            subject: container.clone(),
            problem: format!("left no log at {}: {error}", log.display()),
        })?;
        Ok(Outcome { container, timings, exit, output: log::parse(&String::from_utf8_lossy(&text)) })
    }

    /// Stops and removes a sandbox with all in it.
    pub async fn remove_pod(&mut self, sandbox: &str) -> Result<()> {
        self.stop_sandbox(sandbox).await?;
        self.remove_sandbox(sandbox).await
    }
}
