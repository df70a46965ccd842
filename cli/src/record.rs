//! `record`: an image's container, run through containerd's CRI as a kubelet would, with the recorder on it.
//!
//! The order matters: the container is created, so its id and with it its cgroup's path are known; the cgroup is made
//! and the recorder attached to it; only then the container is started, and joins the cgroup that is there already.

mod backend;
mod interrupt;
mod pod;
mod summary;
mod until;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bundles::trace::{End, Trace};
use tokio::task::spawn_blocking;
use tracer::cgroup::Leftovers;
use tracer::cri::ContainerSpec;
use tracer::{Recorded, Recorder, Target};

use interrupt::Interrupt;
use pod::Pod;
use until::Conditions;

/// How long a container may take to end after SIGTERM, before it gets SIGKILL.
const GRACE: Duration = Duration::from_secs(10);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Reference of the image; it is pulled if this node has not got it
    image: String,
    /// Program to run instead of the image's entry point, with its arguments
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
    /// Where to write the trace
    #[arg(short, long, value_name = "FILE", default_value = "trace.cpft")]
    output: PathBuf,
    /// Socket of containerd
    #[arg(
        long,
        value_name = "SOCKET",
        env = "CONTAINER_RUNTIME_ENDPOINT",
        default_value = "unix:///run/containerd/containerd.sock"
    )]
    cri_socket: String,
    #[command(flatten)]
    until: until::Args,
    /// By which means the kernel is asked; auto: BPF, or fanotify, which sees less, where BPF is refused
    #[arg(long, value_enum, default_value_t)]
    backend: backend::Choice,
    /// Environment variable of the container
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    env: Vec<(String, String)>,
    /// Cgroup below which the container runs
    #[arg(long, value_name = "PATH", default_value = "/cvmfs-prefetch", value_parser = cgroup_path)]
    cgroup_parent: PathBuf,
    /// Succeed even if some uses were lost
    #[arg(long)]
    allow_incomplete: bool,
}

pub(crate) async fn run(args: Args) -> Result<ExitCode> {
    let mut interrupt = Interrupt::listen()?;
    // First what can fail for want of rights, before anything is started.
    let conditions = args.until.conditions(args.command.is_empty());
    conditions.check().await?;
    let backend = args.backend;
    let recorder = spawn_blocking(move || Recorder::load_backend(backend.into())).await??;
    let _leftovers = Leftovers::note(&args.cgroup_parent)?;
    let mut pod = Pod::connect(&args.cri_socket, &args.cgroup_parent).await?;
    let recorded = record(&args, &conditions, recorder, &mut pod, &mut interrupt).await;
    let removed = pod.remove().await;
    let trace = recorded?;
    removed.context("the trace was not written, as the recorded container could not be removed")?;

    trace.write(&args.output)?;
    println!("{}", summary::text(&args.output, &trace));
    if trace.is_complete() || args.allow_incomplete {
        return Ok(ExitCode::SUCCESS);
    }
    let faults = trace.faults().join("; ");
    eprintln!("cvmfs-prefetch: the trace is incomplete ({faults}); record again, or accept it with --allow-incomplete");
    Ok(ExitCode::FAILURE)
}

/// From the image's name to the record. Whatever was made is in `pod` by then, also on an error.
async fn record(
    args: &Args,
    conditions: &Conditions,
    recorder: Recorder,
    pod: &mut Pod,
    interrupt: &mut Interrupt,
) -> Result<Trace> {
    let image = tokio::select! {
        image = pod.have(&args.image) => image?,
        () = interrupt.wait() => bail!("interrupted"),
    };
    let command = Some(args.command.clone()).filter(|command| !command.is_empty());
    let container =
        ContainerSpec { image: args.image.clone(), command, env: args.env.clone(), ..ContainerSpec::default() };
    // Calls that make something are not given up half-way, or nobody would know what to remove.
    let cgroup = pod.create(container).await?;
    interrupt.check()?;
    let recording = spawn_blocking(move || recorder.follow(Target::Cgroup(cgroup))).await??;
    pod.start().await?;
    eprintln!("recording {} until {conditions}", args.image);
    let log = pod.log();
    let end = tokio::select! {
        code = pod.exited() => End::Exited(code?),
        end = conditions.wait(&log, || recording.files_seen()) => end?,
        () = interrupt.wait() => End::Stopped,
    };
    let recorded: Recorded = spawn_blocking(move || recording.stop(end)).await??;
    eprint!("{}", summary::why(end, &pod.output()));
    pod.stop(GRACE).await?;
    Ok(recorded.into_trace(image))
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
    }

    #[test]
    fn nonsense_is_refused() {
        let bad: [&[&str]; 5] = [
            &[],
            &["i", "--env", "A"],
            &["i", "--env", "=b"],
            &["i", "--cgroup-parent", "/a/../.."],
            &["i", "--cgroup-parent", "/"],
        ];
        for words in bad {
            assert!(parse(words).is_err(), "{words:?} was accepted");
        }
    }
}
