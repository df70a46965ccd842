//! `watch`: a service that records new containers of the node that match a selector, from before their first process.
//!
//! The kernel part follows every new cgroup that may be a container's, from its creation. Then this program asks the runtime
//! for the container, and records or releases the cgroup.

mod directory;
mod selector;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use bundles::trace::End;
use tokio::task::{JoinError, JoinSet, spawn_blocking};
use tracer_ebpf::cri::{Container, PodInfo, Runtime};
use tracer_ebpf::{NewContainer, Options, Recorder};

use crate::failure;
use crate::json::{RecordedTrace, WatchedTrace};
use crate::output::{Output, warn, write_json_line};
use crate::recording::attach::{container_id, image_id};
use crate::recording::interrupt::Interrupt;
use crate::recording::options::OptionArgs;
use crate::recording::output::Output as TraceFile;
use crate::recording::runtime::RuntimeArgs;
use crate::recording::until::{self, UntilArgs};
use directory::Directory;
use selector::{Selector, SelectorArgs};

/// How often the service checks whether it shall end.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// How long the runtime may take to know a container after its cgroup was created.
const RUNTIME_TIMEOUT: Duration = Duration::from_secs(5);

const EXAMPLES: &str = "\
Examples:
  Record every start of the pods of a namespace with a label:
    cvmfs-prefetch watch --namespace physics --label app=root

  Record one start in a hundred of some images, at most 8 at the same time:
    cvmfs-prefetch watch --image /root: --share 0.01 --max-recordings 8
";

/// Record new containers of this node as they start, as a service
///
/// Follows each container that matches the selector from before its first process, until it exits or settles. Does not touch
/// the containers. They outlive a restart of containerd, and so do their recordings. SIGTERM ends the service; running recordings
/// keep their traces, which are marked as cut short.
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Watch {
    /// Directory for the traces, written as CHAIN_ID/TIME-CONTAINER.cpft
    #[arg(short, long, value_name = "DIRECTORY", default_value = "/var/lib/cvmfs-prefetch/traces")]
    output: PathBuf,
    /// Maximum number of recordings at the same time; further containers are not recorded
    #[arg(long, value_name = "COUNT", default_value_t = 16)]
    max_recordings: usize,
    /// Maximum number of traces to keep; the oldest are removed
    ///
    /// Unfinished traces that a killed service left are removed after a day.
    #[arg(long, value_name = "COUNT", default_value_t = 10_000)]
    keep: usize,
    /// Print a line of JSON for each trace
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    selector: SelectorArgs,
    #[command(flatten)]
    until: UntilArgs,
    #[command(flatten)]
    options: OptionArgs,
    #[command(flatten)]
    runtime: RuntimeArgs,
}

/// What all recordings share.
struct Watcher {
    args: Watch,
    selector: Selector,
    directory: Directory,
    recorder: Recorder,
    /// Number of recordings that run.
    running: AtomicUsize,
}

impl Watch {
    pub(crate) async fn run(self, out: &mut Output) -> Result<ExitCode> {
        let mut interrupt = Interrupt::listen()?;
        let (backend, options) = (self.options.backend(), Options { watch: true, ..self.options.options() });
        let recorder = spawn_blocking(move || Recorder::load_backend(backend, options)).await??;
        let runtime = self.runtime.connect().await?;
        let watcher = Arc::new(Watcher {
            selector: self.selector.selector(),
            directory: Directory::new(&self.output, self.keep)?,
            recorder: recorder.clone(),
            running: AtomicUsize::new(0),
            args: self,
        });
        let mut watch = recorder.watch()?;
        let directory = watcher.args.output.display();
        out.notes().print(format_args!("watching for containers with {}; traces go to {directory}", watcher.selector));
        let mut recordings = JoinSet::new();
        let mut printed = Ok(());
        while interrupt.check().is_ok() {
            let (back, new_container) = spawn_blocking(move || {
                let new_container = watch.next(CHECK_INTERVAL);
                (watch, new_container)
            })
            .await?;
            watch = back;
            match new_container {
                Ok(None) => {}
                Ok(Some(new_container)) => {
                    recordings.spawn(Arc::clone(&watcher).handle(new_container, runtime.clone(), interrupt.clone()));
                }
                Err(error) => printed = Err(error.into()),
            }
            while let Some(recorded) = recordings.try_join_next() {
                printed = printed.and_then(|()| print(out, watcher.args.json, ended(recorded)));
            }
            if printed.is_err() {
                interrupt.request();
            }
        }
        interrupt.wait().await;
        // The interrupt ends the recordings, too; each finishes its trace.
        while let Some(recorded) = recordings.join_next().await {
            printed = printed.and_then(|()| print(out, watcher.args.json, ended(recorded)));
        }
        printed.map(|()| ExitCode::SUCCESS)
    }
}

/// What a recording that has ended has recorded.
fn ended(recorded: Result<Option<WatchedTrace>, JoinError>) -> Option<WatchedTrace> {
    recorded.unwrap_or_else(|error| {
        warn(format_args!("error: a recording ended unexpectedly: {error}"));
        None
    })
}

/// Prints a line for a finished recording.
fn print(out: &mut Output, json: bool, recorded: Option<WatchedTrace>) -> Result<()> {
    let Some(watched) = recorded else { return Ok(()) };
    out.print(|out| {
        if json {
            return write_json_line(out, &watched);
        }
        use std::io::Write;
        let WatchedTrace { namespace, pod, container, recorded } = &watched;
        let state = if recorded.complete { "complete" } else { "incomplete" };
        let RecordedTrace { files, end, trace, .. } = recorded;
        writeln!(out, "{container} of pod {namespace}/{pod}: {files} files, {end}, {state}: {trace}")
    })
}

impl Watcher {
    /// Records a new container if it matches the selector; returns the trace.
    async fn handle(
        self: Arc<Self>,
        new_container: NewContainer,
        runtime: Runtime,
        interrupt: Interrupt,
    ) -> Option<WatchedTrace> {
        let selected = self.select(&new_container, runtime.clone()).await.unwrap_or_else(|error| {
            warn(format_args!("error: {}: {}", new_container.cgroup.display(), failure::causes(&error)));
            None
        });
        let Some((container, pod)) = selected else {
            release(new_container).await;
            return None;
        };
        let name = format!("{} of pod {}/{}", container.name, pod.namespace, pod.name);
        let mut watched = None;
        if self.running.fetch_add(1, Ordering::Relaxed) >= self.args.max_recordings {
            let running = self.args.max_recordings;
            warn(format_args!("{name} is not recorded: {running} recordings are running (--max-recordings)"));
            release(new_container).await;
        } else {
            match self.record(new_container, &container, runtime, interrupt).await {
                Ok(recorded) => {
                    let container = container.name.clone();
                    watched = Some(WatchedTrace { namespace: pod.namespace, pod: pod.name, container, recorded });
                }
                Err(error) => warn(format_args!("error: {name}: {}", failure::causes(&error))),
            }
        }
        self.running.fetch_sub(1, Ordering::Relaxed);
        watched
    }

    /// Returns the container and its pod if they match the selector. Cgroups of sandboxes, and of other runtimes, have no
    /// container.
    async fn select(&self, new_container: &NewContainer, mut runtime: Runtime) -> Result<Option<(Container, PodInfo)>> {
        let Some(id) = container_id(&new_container.cgroup) else { return Ok(None) };
        let found = tokio::time::timeout(RUNTIME_TIMEOUT, runtime.container(&id)).await;
        let Some(container) = found.context("the runtime does not answer")?? else { return Ok(None) };
        let pod = runtime.pod(&container.sandbox).await?;
        let draw = share_of_id(&id);
        Ok(self.selector.matches(&pod, &container.image, draw).then_some((container, pod)))
    }

    async fn record(
        &self,
        new_container: NewContainer,
        container: &Container,
        mut runtime: Runtime,
        mut interrupt: Interrupt,
    ) -> Result<RecordedTrace> {
        let image = image_id(&mut runtime, &container.image).await?;
        let path = self.directory.trace_path(&image.chain_id.to_string(), &container.id)?;
        let file = TraceFile::new(&path);
        let (subject, out) = (self.args.options.subject(image, container), file.create()?);
        let recorder = self.recorder.clone();
        let cgroup = recorder.hierarchy().directory(&new_container.cgroup);
        let recording = spawn_blocking(move || recorder.record(new_container, subject, out)).await??;
        let conditions = self.args.until.conditions(true);
        let mut waiter = runtime.clone();
        let checked = until::Container { runtime, container: container.clone() };
        let end = tokio::select! {
            end = until::exited(&mut waiter, &container.id, &cgroup) => end,
            end = conditions.wait(Some(checked), &recording) => end,
            () = interrupt.wait() => Ok(End::CutShort),
        };
        // If the end cannot be seen, the recording so far is kept.
        let end = end.unwrap_or_else(|error| {
            warn(format_args!("error: recording of {} cut short: {}", container.name, failure::causes(&error)));
            End::CutShort
        });
        let ended = spawn_blocking(move || recording.stop(end)).await?;
        if let Err(error) = ended {
            file.discard_empty();
            return Err(error.into());
        }
        let trace = file.finish()?;
        self.directory.remove_old();
        Ok(RecordedTrace::new(&path, &trace))
    }
}

/// Stops following a container, on a thread that may block.
async fn release(new_container: NewContainer) {
    if let Err(error) = spawn_blocking(move || drop(new_container)).await {
        tracing::error!(%error, "cannot stop following a container that is not recorded");
    }
}

/// A number in [0, 1) from the container's id, which is random.
fn share_of_id(id: &str) -> f64 {
    let number = id.get(..12).and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or(0);
    number as f64 / (1u64 << 48) as f64
}

#[cfg(test)]
mod tests {
    use super::share_of_id;

    #[test]
    fn ids_are_evenly_distributed() {
        assert_eq!(share_of_id("000000000000ffff"), 0.0);
        assert_eq!(share_of_id("800000000000ffff"), 0.5);
        assert!(share_of_id("ffffffffffffffff") < 1.0);
    }
}
