//! `record`: the files that a container uses. The container runs for the recording, started through containerd's CRI as a
//! kubelet does, or runs already.
//!
//! For a new container, the order matters: creating the container yields its id and the path of its cgroup; this program then
//! creates the cgroup and follows it; only then the container is started, and joins the existing cgroup.

mod pod;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bundles::trace::{End, Trace};
use tokio::task::spawn_blocking;
use tracer_ebpf::cri::ContainerSpec;
use tracer_ebpf::{Recorder, Recording, Subject, Target};

use crate::json::RecordedTrace;
use crate::output::{Notes, Output, warn};
use crate::recording::attach::{AttachArgs, Running};
use crate::recording::interrupt::Interrupt;
use crate::recording::options::OptionArgs;
use crate::recording::output::Output as TraceFile;
use crate::recording::runtime::RuntimeArgs;
use crate::recording::summary;
use crate::recording::until::{self, Conditions, Container, UntilArgs};
use pod::Pod;

/// How long a container may take to exit after SIGTERM, before it gets SIGKILL.
const GRACE: Duration = Duration::from_secs(10);

const EXAMPLES: &str = "\
Examples:
  Record a program until it exits:
    cvmfs-prefetch record registry.example.org/physics/root:6.32 -o root.trace -- root -b -q macro.C

  Record a service until its port answers:
    cvmfs-prefetch record registry.example.org/physics/server:1 --until-port 8080

  Record a container that runs already:
    cvmfs-prefetch record --pod physics/root-0 --timeout 5m

Exit codes: 0 the trace is complete and the program succeeded, 1 error, or one of these does not hold (the trace is kept),
2 wrong usage
";

/// Record which files a container uses, and write a trace
///
/// Pulls IMAGE, runs it, and records every file that its processes use until the container exits or the recording ends. An
/// image without COMMAND is taken for a service and recorded until it opens few new files ("settles"). With --container,
/// --pod or --cgroup, records a container that runs already.
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Record {
    /// Reference of the image to run
    #[arg(required_unless_present = "attach")]
    image: Option<String>,
    /// Program to run instead of the image's entry point, with its arguments
    #[arg(last = true, value_name = "COMMAND", conflicts_with = "attach")]
    command: Vec<String>,
    /// Trace to write; it is called FILE.partial during the recording
    #[arg(short, long, value_name = "FILE", default_value = "trace.cpft")]
    output: PathBuf,
    /// Succeed even if events were lost, or the container's start was missed
    #[arg(long)]
    allow_incomplete: bool,
    /// Succeed even if the program failed
    #[arg(long, conflicts_with = "attach")]
    allow_failure: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    new_container: NewContainer,
    #[command(flatten)]
    attach: AttachArgs,
    /// Name of the container in the pod
    #[arg(long, requires = "pod", help_heading = "Running container (instead of running IMAGE)")]
    name: Option<String>,
    #[command(flatten)]
    until: UntilArgs,
    #[command(flatten)]
    options: OptionArgs,
    #[command(flatten)]
    runtime: RuntimeArgs,
}

#[derive(clap::Args)]
#[command(next_help_heading = "New container")]
struct NewContainer {
    /// Environment variable of the container; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable, conflicts_with = "attach")]
    env: Vec<(String, String)>,
    /// Cgroup below which the container's pod gets its own
    #[arg(long, value_name = "PATH", default_value = "/cvmfs-prefetch", value_parser = cgroup_path)]
    cgroup_parent: PathBuf,
}

impl Record {
    pub(crate) async fn run(self, out: &mut Output) -> Result<ExitCode> {
        let mut interrupt = Interrupt::listen()?;
        // What needs privileges comes first, before anything is started.
        let attached = self.attach.is_given();
        let conditions = self.until.conditions(attached || self.command.is_empty());
        conditions.check().await?;
        let (backend, options) = (self.options.backend(), self.options.options());
        let recorder = spawn_blocking(move || Recorder::load_backend(backend, options)).await??;
        let file = TraceFile::new(&self.output);
        let context =
            RecordingContext { conditions: &conditions, recorder: &recorder, file: &file, notes: out.notes() };
        let recorded = if attached {
            record_running(&self, &context, &mut interrupt).await
        } else {
            record_new(&self, &context, &mut interrupt).await
        };
        if let Err(error) = recorded {
            file.discard_empty();
            return Err(error);
        }
        let trace = file.finish()?;
        out.report(self.json, &RecordedTrace::new(&self.output, &trace), summary::print)?;
        let passed = self.accept(&trace, attached);
        Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// Whether the trace is as complete as the user wants it, and the program succeeded.
    fn accept(&self, trace: &Trace, attached: bool) -> bool {
        let mut accepted = true;
        // The user knows that the start of a running container is missed.
        if !(trace.is_complete() || self.allow_incomplete || (attached && only_start_is_missing(trace))) {
            let faults = trace.faults().join("; ");
            warn(format_args!(
                "error: the trace is incomplete ({faults}); record again, or accept it with --allow-incomplete"
            ));
            accepted = false;
        }
        // Whether somebody else's container fails does not matter here.
        if !attached && !self.allow_failure && has_failed(trace.end) {
            let end = trace.end;
            warn(format_args!(
                "error: the program {end}, so the trace may lack files of a successful run; record again, or accept the \
                 trace with --allow-failure"
            ));
            accepted = false;
        }
        accepted
    }
}

fn has_failed(end: End) -> bool {
    matches!(end, End::Exited(code) if code != 0)
}

fn only_start_is_missing(trace: &Trace) -> bool {
    trace.losses.total() == 0 && trace.faults().len() == 1
}

/// What a recording needs, of a new container and of a running one.
struct RecordingContext<'a> {
    conditions: &'a Conditions,
    recorder: &'a Recorder,
    file: &'a TraceFile,
    notes: Notes,
}

/// Runs a container of the image, and removes it, also after an error.
async fn record_new(args: &Record, context: &RecordingContext<'_>, interrupt: &mut Interrupt) -> Result<()> {
    let mut pod = Pod::new(args.runtime.connect().await?, &args.new_container.cgroup_parent)?;
    let recorded = record_pod(args, context, &mut pod, interrupt).await;
    let removed = pod.remove().await;
    recorded?;
    removed.context("cannot remove the recorded container, so the trace was not kept")
}

async fn record_pod(
    args: &Record,
    context: &RecordingContext<'_>,
    pod: &mut Pod,
    interrupt: &mut Interrupt,
) -> Result<()> {
    let RecordingContext { conditions, recorder, file, notes } = *context;
    let reference = args.image.as_deref().context("no image given")?;
    let image = tokio::select! {
        image = pod.pull_if_missing(reference, notes) => image?,
        () = interrupt.wait() => bail!("interrupted"),
    };
    let command = Some(args.command.clone()).filter(|command| !command.is_empty());
    let spec = ContainerSpec {
        image: reference.into(),
        command,
        env: args.new_container.env.clone(),
        ..ContainerSpec::default()
    };
    // These calls are not interrupted: they create what must be removed later.
    let cgroup = pod.create(recorder.hierarchy(), spec).await?;
    interrupt.check()?;
    let container = pod.container().await?;
    let (subject, out) = (args.options.subject(image, &container.container), file.create()?);
    let recording = follow(recorder, Target::New(cgroup), subject, out).await?;
    pod.start().await?;
    notes.print(format_args!("recording {reference} until {conditions}"));
    let end = tokio::select! {
        code = pod.exited() => End::Exited(code?),
        end = conditions.wait(Some(container), &recording) => end?,
        // A command is recorded to its exit, a service for as long as its user likes.
        () = interrupt.wait() => if args.command.is_empty() { End::Stopped } else { End::CutShort },
    };
    spawn_blocking(move || recording.stop(end)).await??;
    if let Some(note) = summary::note(end, &pod.output()) {
        notes.print(note.trim_end());
    }
    pod.stop(GRACE).await
}

/// Records a container of somebody else, which goes on running.
async fn record_running(args: &Record, context: &RecordingContext<'_>, interrupt: &mut Interrupt) -> Result<()> {
    let RecordingContext { conditions, recorder, file, notes } = *context;
    let mut runtime = args.runtime.connect().await?;
    let (image, name) = (args.image.as_deref(), args.name.as_deref());
    let found = args.attach.find(&mut runtime, recorder.hierarchy(), image, name).await?;
    let Running { cgroup, image, container } = found;
    ensure!(
        container.is_some() || !conditions.need_container(),
        "--until-line and --until-ready need --container or --pod"
    );
    let reference = image.reference.clone();
    let container_or_empty = container.clone().unwrap_or_default();
    let (subject, out) = (args.options.subject(image, &container_or_empty), file.create()?);
    let recording = follow(recorder, Target::Running(cgroup.clone()), subject, out).await?;
    notes.print(format_args!("recording {reference} until {conditions}"));
    let (mut waiter, id) = (runtime.clone(), container.as_ref().map(|container| container.id.clone()));
    let exited = async {
        match &id {
            Some(id) => until::exited(&mut waiter, id, &cgroup).await,
            None => until::emptied(&cgroup).await,
        }
    };
    let checked = container.map(|container| Container { runtime, container });
    let end = tokio::select! {
        end = exited => end?,
        end = conditions.wait(checked, &recording) => end?,
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
        Ok(path) if path.name().is_empty() => Err("expected a cgroup below the root of the hierarchy".into()),
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
        args: Record,
    }

    fn parse(words: &[&str]) -> Result<Record, clap::Error> {
        Line::try_parse_from([&["record"], words].concat()).map(|line| line.args)
    }

    #[test]
    fn commands_and_attached_containers_parse() {
        let args = parse(&["r/i:t", "--env", "A=b=c", "--", "sh", "-c", "true"]).unwrap();
        assert_eq!(args.new_container.env, [("A".into(), "b=c".into())]);
        assert_eq!(args.command, ["sh", "-c", "true"]);
        assert_eq!(parse(&["i"]).unwrap().command.len(), 0);
        for words in [&["--container", "x"][..], &["--pod", "n/p", "--name", "c"], &["i", "--cgroup", "/x"]] {
            assert!(parse(words).unwrap().attach.is_given(), "{words:?}");
        }
    }

    #[test]
    fn malformed_or_contradicting_flags_are_refused() {
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
