//! `watch`: a service that records new containers of the node that match a selector, from before their first process.
//!
//! The kernel part follows every new cgroup that may be a container's, from the moment it is made; the runtime is then
//! asked which container it is, and it is recorded or forgotten.

mod directory;
mod selector;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use bundles::trace::End;
use tokio::task::{JoinSet, spawn_blocking};
use tracer_ebpf::cri::{Container, PodInfo, Runtime};
use tracer_ebpf::{Newcomer, Options, Recorder};

use crate::record::attach::{container_id, image_id};
use crate::record::interrupt::Interrupt;
use crate::record::output::Output;
use crate::record::{RuntimeArgs, until, what};
use directory::Directory;
use selector::Selector;

/// How often it is looked whether the service is to end.
const LOOK: Duration = Duration::from_millis(100);
/// How long the runtime may take to know a container whose cgroup is there.
const KNOWN: Duration = Duration::from_secs(5);

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    selector: selector::Args,
    /// Where traces are put, as <chain ID>/<seconds since 1970>-<container>.cpft
    #[arg(short, long, value_name = "DIRECTORY", default_value = "/var/lib/cvmfs-prefetch/traces")]
    output: PathBuf,
    /// The most containers that are recorded at a time; more are let go
    #[arg(long, value_name = "COUNT", default_value_t = 16)]
    at_once: usize,
    /// The most traces that are kept; the oldest go, and a day later what a killed watch left unfinished
    #[arg(long, value_name = "COUNT", default_value_t = 10_000)]
    keep: usize,
    #[command(flatten)]
    runtime: RuntimeArgs,
    #[command(flatten)]
    until: until::Args,
    #[command(flatten)]
    what: what::Args,
}

/// What all recordings share.
struct Watcher {
    args: Args,
    selector: Selector,
    directory: Directory,
    recorder: Recorder,
    recording: AtomicUsize,
}

pub(crate) async fn run(args: Args) -> Result<ExitCode> {
    let mut interrupt = Interrupt::listen()?;
    let (backend, options) = (args.what.backend(), Options { watch: true, ..args.what.options() });
    let recorder = spawn_blocking(move || Recorder::load_backend(backend, options)).await??;
    let runtime = args.runtime.connect().await?;
    let watcher = Arc::new(Watcher {
        selector: args.selector.selector(),
        directory: Directory::new(&args.output, args.keep)?,
        recorder: recorder.clone(),
        recording: AtomicUsize::new(0),
        args,
    });
    let mut watch = recorder.watch()?;
    println!("watching for containers with {}, traces go to {}", watcher.selector, watcher.args.output.display());
    let mut recordings = JoinSet::new();
    while interrupt.check().is_ok() {
        let (back, newcomer) = spawn_blocking(move || {
            let newcomer = watch.next(LOOK);
            (watch, newcomer)
        })
        .await?;
        watch = back;
        if let Some(newcomer) = newcomer {
            recordings.spawn(Arc::clone(&watcher).meet(newcomer, runtime.clone(), interrupt.clone()));
        }
        while recordings.try_join_next().is_some() {}
    }
    interrupt.wait().await;
    // Recordings end by the interrupt, too, and each keeps its trace.
    recordings.join_all().await;
    Ok(ExitCode::SUCCESS)
}

impl Watcher {
    /// Records one newcomer, or lets it go.
    async fn meet(self: Arc<Self>, newcomer: Newcomer, runtime: Runtime, interrupt: Interrupt) {
        let chosen = match self.choose(&newcomer, runtime.clone()).await {
            Ok(chosen) => chosen,
            Err(error) => {
                eprintln!("cvmfs-prefetch: {}: {error:#}", newcomer.cgroup.display());
                None
            }
        };
        let Some((container, pod)) = chosen else { return dismiss(newcomer).await };
        let name = format!("{} of pod {}/{}", container.name, pod.namespace, pod.name);
        if self.recording.fetch_add(1, Ordering::Relaxed) >= self.args.at_once {
            eprintln!("cvmfs-prefetch: {name} is not recorded: {} are already (--at-once)", self.args.at_once);
            dismiss(newcomer).await;
        } else {
            match self.record(newcomer, &container, runtime, interrupt).await {
                Ok(said) => println!("{name}: {said}"),
                Err(error) => eprintln!("cvmfs-prefetch: {name}: {error:#}"),
            }
        }
        self.recording.fetch_sub(1, Ordering::Relaxed);
    }

    /// Which container it is, if it is to be recorded. Sandboxes and what is none of this runtime are no containers.
    async fn choose(&self, newcomer: &Newcomer, mut runtime: Runtime) -> Result<Option<(Container, PodInfo)>> {
        let Some(id) = container_id(&newcomer.cgroup) else { return Ok(None) };
        let known = tokio::time::timeout(KNOWN, runtime.container(&id)).await;
        let Some(container) = known.context("the runtime does not answer")?? else { return Ok(None) };
        let pod = runtime.pod(&container.sandbox).await?;
        let draw = rand_share(&id);
        Ok(self.selector.matches(&pod, &container.image, draw).then_some((container, pod)))
    }

    async fn record(
        &self,
        newcomer: Newcomer,
        container: &Container,
        mut runtime: Runtime,
        mut interrupt: Interrupt,
    ) -> Result<String> {
        let image = image_id(&mut runtime, &container.image).await?;
        let path = self.directory.place(&image.chain_id.to_string(), &container.id)?;
        let output = Output::new(&path);
        let (subject, out) = (self.args.what.subject(image, container), output.create()?);
        let recorder = self.recorder.clone();
        let recording = spawn_blocking(move || recorder.adopt(newcomer, subject, out)).await??;
        let conditions = self.args.until.conditions(true);
        let mut waiter = runtime.clone();
        let asked = until::Container { runtime, container: container.clone() };
        let end = tokio::select! {
            end = until::exited(&mut waiter, &container.id) => end,
            end = conditions.wait(Some(asked), &recording) => end,
            () = interrupt.wait() => Ok(End::Stopped),
        };
        // A recording that could not be watched over is still what it is.
        let ended = spawn_blocking(move || recording.stop(end.unwrap_or(End::Stopped))).await?;
        if let Err(error) = ended {
            output.give_up();
            return Err(error.into());
        }
        let trace = output.finish()?;
        self.directory.tidy();
        let state = if trace.is_complete() { "complete" } else { "incomplete" };
        Ok(format!("{} files, {}, {state}: {}", trace.files.len(), trace.end, path.display()))
    }
}

/// Forgets it, off the runtime's threads.
async fn dismiss(newcomer: Newcomer) {
    if let Err(error) = spawn_blocking(move || drop(newcomer)).await {
        tracing::error!(%error, "a container that is not recorded may still be followed");
    }
}

/// A number in [0, 1) that depends on nothing but the container's id, which is random.
fn rand_share(id: &str) -> f64 {
    let number = id.get(..12).and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or(0);
    number as f64 / (1u64 << 48) as f64
}

#[cfg(test)]
mod tests {
    use super::rand_share;

    #[test]
    fn ids_are_drawn_evenly() {
        assert_eq!(rand_share("000000000000ffff"), 0.0);
        assert_eq!(rand_share("800000000000ffff"), 0.5);
        assert!(rand_share("ffffffffffffffff") < 1.0);
    }
}
