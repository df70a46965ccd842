//! `record`: what a container uses. Either an image's container, run through containerd's CRI as a kubelet would, or one
//! that runs already.
//!
//! For the first the order matters: the container is created, so its id and with it its cgroup's path are known; the
//! cgroup is made and followed; only then the container is started, and joins the cgroup that is there already.

pub(crate) mod attach;
pub(crate) mod interrupt;
pub(crate) mod output;
mod pod;
pub(crate) mod summary;
pub(crate) mod until;
pub(crate) mod what;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bundles::trace::{End, Trace};
use tokio::task::spawn_blocking;
use tracer_ebpf::cri::{ContainerSpec, Runtime};
use tracer_ebpf::{Recorder, Recording, Subject, Target};

use attach::Running;
use interrupt::Interrupt;
use output::Output;
use pod::Pod;
use until::{Conditions, Container};

/// How long a container may take to end after SIGTERM, before it gets SIGKILL.
const GRACE: Duration = Duration::from_secs(10);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Reference of the image to run; it is pulled if this node has not got it
    #[arg(required_unless_present = "attach")]
    image: Option<String>,
    /// Program to run instead of the image's entry point, with its arguments
    #[arg(last = true, value_name = "COMMAND", conflicts_with = "attach")]
    command: Vec<String>,
    #[command(flatten)]
    attach: attach::Args,
    /// Which container of the pod
    #[arg(long, requires = "pod")]
    name: Option<String>,
    /// Where to write the trace; while it grows it is called FILE.partial
    #[arg(short, long, value_name = "FILE", default_value = "trace.cpft")]
    output: PathBuf,
    #[command(flatten)]
    runtime: RuntimeArgs,
    #[command(flatten)]
    until: until::Args,
    #[command(flatten)]
    what: what::Args,
    /// Environment variable of the container
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable, conflicts_with = "attach")]
    env: Vec<(String, String)>,
    /// Cgroup below which the pod's own is made
    #[arg(long, value_name = "PATH", default_value = "/cvmfs-prefetch", value_parser = cgroup_path)]
    cgroup_parent: PathBuf,
    /// Succeed even if some uses were lost, or the container's start was missed
    #[arg(long)]
    allow_incomplete: bool,
    /// Succeed even if the program failed
    #[arg(long, conflicts_with = "attach")]
    allow_failure: bool,
}

#[derive(clap::Args)]
pub(crate) struct RuntimeArgs {
    /// Socket of containerd
    #[arg(
        long,
        value_name = "SOCKET",
        env = "CONTAINER_RUNTIME_ENDPOINT",
        default_value = "unix:///run/containerd/containerd.sock"
    )]
    cri_socket: String,
}

impl RuntimeArgs {
    pub(crate) async fn connect(&self) -> Result<Runtime> {
        let socket = self.cri_socket.strip_prefix("unix://").unwrap_or(&self.cri_socket);
        Ok(Runtime::connect(socket.as_ref()).await?)
    }
}

pub(crate) async fn run(args: Args) -> Result<ExitCode> {
    let mut interrupt = Interrupt::listen()?;
    // First what can fail for want of rights, before anything is started.
    let attached = args.attach.is_asked_for();
    let conditions = args.until.conditions(attached || args.command.is_empty());
    conditions.check().await?;
    let (backend, options) = (args.what.backend(), args.what.options());
    let recorder = spawn_blocking(move || Recorder::load_backend(backend, options)).await??;
    let output = Output::new(&args.output);
    let recorded = match attached {
        true => record_running(&args, &conditions, &recorder, &output, &mut interrupt).await,
        false => record_own(&args, &conditions, &recorder, &output, &mut interrupt).await,
    };
    if let Err(error) = recorded {
        output.give_up();
        return Err(error);
    }
    let trace = output.finish()?;
    println!("{}", summary::text(&args.output, &trace));
    let mut good = true;
    // A start that was missed is what was asked for.
    if !(trace.is_complete() || args.allow_incomplete || (attached && only_start_is_missing(&trace))) {
        let faults = trace.faults().join("; ");
        eprintln!(
            "cvmfs-prefetch: the trace is incomplete ({faults}); record again, or accept it with --allow-incomplete"
        );
        good = false;
    }
    // Somebody else's container is somebody else's business.
    if !attached && !args.allow_failure && has_failed(trace.end) {
        eprintln!(
            "cvmfs-prefetch: the program {}, so it may not have used what it uses when it succeeds; record again, or accept \
             the trace with --allow-failure",
            trace.end
        );
        good = false;
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn has_failed(end: End) -> bool {
    matches!(end, End::Exited(code) if code != 0)
}

fn only_start_is_missing(trace: &Trace) -> bool {
    trace.losses.total() == 0 && trace.faults().len() == 1
}

/// Runs a container of the image, and removes it whatever happens.
async fn record_own(
    args: &Args,
    conditions: &Conditions,
    recorder: &Recorder,
    output: &Output,
    interrupt: &mut Interrupt,
) -> Result<()> {
    let mut pod = Pod::new(args.runtime.connect().await?, &args.cgroup_parent)?;
    let recorded = record_pod(args, conditions, recorder, output, &mut pod, interrupt).await;
    let removed = pod.remove().await;
    recorded?;
    removed.context("the trace was not kept, as the recorded container could not be removed")
}

async fn record_pod(
    args: &Args,
    conditions: &Conditions,
    recorder: &Recorder,
    output: &Output,
    pod: &mut Pod,
    interrupt: &mut Interrupt,
) -> Result<()> {
    let reference = args.image.as_deref().context("no image was named")?;
    let image = tokio::select! {
        image = pod.have(reference) => image?,
        () = interrupt.wait() => bail!("interrupted"),
    };
    let command = Some(args.command.clone()).filter(|command| !command.is_empty());
    let spec = ContainerSpec { image: reference.into(), command, env: args.env.clone(), ..ContainerSpec::default() };
    // Calls that make something are not given up half-way, or nobody would know what to remove.
    let cgroup = pod.create(recorder.hierarchy(), spec).await?;
    interrupt.check()?;
    let container = pod.container().await?;
    let (subject, out) = (args.what.subject(image, &container.container), output.create()?);
    let recording = follow(recorder, Target::New(cgroup), subject, out).await?;
    pod.start().await?;
    eprintln!("recording {reference} until {conditions}");
    let end = tokio::select! {
        code = pod.exited() => End::Exited(code?),
        end = conditions.wait(Some(container), &recording) => end?,
        () = interrupt.wait() => End::Stopped,
    };
    spawn_blocking(move || recording.stop(end)).await??;
    eprint!("{}", summary::why(end, &pod.output()));
    pod.stop(GRACE).await
}

/// Records a container that is somebody else's, and leaves it alone.
async fn record_running(
    args: &Args,
    conditions: &Conditions,
    recorder: &Recorder,
    output: &Output,
    interrupt: &mut Interrupt,
) -> Result<()> {
    let mut runtime = args.runtime.connect().await?;
    let (image, name) = (args.image.as_deref(), args.name.as_deref());
    let found = args.attach.find(&mut runtime, recorder.hierarchy(), image, name).await?;
    let Running { cgroup, image, container } = found;
    ensure!(
        container.is_some() || !conditions.need_container(),
        "--until-line and --until-ready need --container or --pod"
    );
    let reference = image.reference.clone();
    let known = container.clone().unwrap_or_default();
    let (subject, out) = (args.what.subject(image, &known), output.create()?);
    let recording = follow(recorder, Target::Running(cgroup.clone()), subject, out).await?;
    eprintln!("recording {reference} until {conditions}");
    let (mut waiter, id) = (runtime.clone(), container.as_ref().map(|container| container.id.clone()));
    let exited = async {
        match &id {
            Some(id) => until::exited(&mut waiter, id).await,
            None => until::emptied(&cgroup).await,
        }
    };
    let asked = container.map(|container| Container { runtime, container });
    let end = tokio::select! {
        end = exited => end?,
        end = conditions.wait(asked, &recording) => end?,
        () = interrupt.wait() => End::Stopped,
    };
    Ok(spawn_blocking(move || recording.stop(end)).await??)
}

async fn follow(recorder: &Recorder, target: Target, subject: Subject, out: tracer_ebpf::Output) -> Result<Recording> {
    let recorder = recorder.clone();
    Ok(spawn_blocking(move || recorder.follow(&target, subject, out)).await??)
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".into()),
    }
}

fn cgroup_path(text: &str) -> Result<PathBuf, String> {
    match bundles::path::RootPath::new(text) {
        Ok(path) if path.name().is_empty() => Err("expected a cgroup below the hierarchy's root".into()),
        Ok(_) => Ok(PathBuf::from(text)),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn parse(words: &[&str]) -> Result<Args, clap::Error> {
        Line::try_parse_from([&["record"], words].concat()).map(|line| line.args)
    }

    #[test]
    fn the_command_line_is_understood() {
        let args = parse(&["r/i:t", "--env", "A=b=c", "--", "sh", "-c", "true"]).unwrap();
        assert_eq!(args.env, [("A".into(), "b=c".into())]);
        assert_eq!(args.command, ["sh", "-c", "true"]);
        assert_eq!(parse(&["i"]).unwrap().command.len(), 0);
        for words in [&["--container", "x"][..], &["--pod", "n/p", "--name", "c"], &["i", "--cgroup", "/x"]] {
            assert!(parse(words).unwrap().attach.is_asked_for(), "{words:?}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let bad: [&[&str]; 11] = [
            &[],
            &["i", "--env", "A"],
            &["i", "--env", "=b"],
            &["i", "--cgroup-parent", "/a/../.."],
            &["i", "--cgroup-parent", "/"],
            &["i", "--name", "c"],
            &["--pod", "p"],
            &["--pod", "n/p", "--container", "x"],
            &["--container", "x", "--", "sh"],
            &["i", "--ring-bytes", "5000"],
            &["i", "--also", "everything"],
        ];
        for words in bad {
            assert!(parse(words).is_err(), "{words:?} was accepted");
        }
    }
}
