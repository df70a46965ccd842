//! When a recording ends: what can be asked for, what holds if nothing is, and the loop that looks.
//!
//! The container's exit and a time limit always end it. A program that was named on the command line is recorded until
//! then. An image run as it is, with nothing said about the end, is taken for a service, which has started when it
//! settles: no exit would come.

mod line;
mod port;
mod ready;
mod settled;

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bundles::trace::End;
use regex::Regex;
use tracer_ebpf::Recording;
use tracer_ebpf::cri::Runtime;

use line::LineSeen;
use ready::{Probe, Ready};
use settled::{Quiet, Settled};

/// How often conditions are looked at.
const POLL: Duration = Duration::from_millis(50);
const TIME_LIMIT: Duration = Duration::from_secs(60);
/// A container may run this long; the recording's own limit ends it.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 86400);

#[derive(clap::Args)]
#[group(id = "until", multiple = true)]
pub(crate) struct Args {
    /// End the recording after this time, if the container still runs ("90s", "5m") [default: 60s]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    time_limit: Option<Duration>,
    /// End the recording when the container writes a line that this regular expression matches
    #[arg(long, value_name = "REGEX")]
    until_line: Option<Regex>,
    /// End the recording when this TCP port of the loopback interface answers
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    until_port: Option<u16>,
    /// End the recording when this command, run in the container as a kubelet's readiness probe would, succeeds; its words
    /// are separated by spaces
    #[arg(long, value_name = "COMMAND")]
    until_ready: Option<Probe>,
    /// End the recording when there were fewer than FILES new files within TIME [default without COMMAND, --time-limit
    /// and another --until: 10/10s, less than one a second for ten seconds]
    #[arg(long, value_name = "FILES/TIME", num_args = 0..=1, require_equals = true, default_missing_value = "10/10s")]
    until_settled: Option<Quiet>,
}

/// What ends a recording, beside the container's exit. Whatever comes first does.
#[derive(Debug)]
pub(crate) struct Conditions {
    time_limit: Duration,
    line: Option<Regex>,
    port: Option<u16>,
    ready: Option<Probe>,
    settled: Option<Quiet>,
}

/// A container that conditions can ask.
pub(crate) struct Container {
    pub(crate) runtime: Runtime,
    pub(crate) container: tracer_ebpf::cri::Container,
}

impl Args {
    /// `as_it_is`: the image's own entry point is run, or runs.
    pub(crate) fn conditions(&self, as_it_is: bool) -> Conditions {
        let nothing_said = self.time_limit.is_none()
            && self.until_line.is_none()
            && self.until_port.is_none()
            && self.until_ready.is_none();
        let service = Some(Quiet::DEFAULT).filter(|_| as_it_is && nothing_said);
        Conditions {
            time_limit: self.time_limit.unwrap_or(TIME_LIMIT),
            line: self.until_line.clone(),
            port: self.until_port,
            ready: self.until_ready.clone(),
            settled: self.until_settled.or(service),
        }
    }
}

impl Conditions {
    /// To be called before the container is started: a condition that holds already would say nothing about it.
    pub(crate) async fn check(&self) -> Result<()> {
        if let Some(port) = self.port {
            ensure!(!port::answers(port).await, "port {port} answers already, before the container: choose another");
        }
        Ok(())
    }

    /// Whether a condition asks the container.
    pub(crate) fn need_container(&self) -> bool {
        self.line.is_some() || self.ready.is_some()
    }

    /// Waits for the first condition, and marks the end of start-up if it comes before.
    pub(crate) async fn wait(&self, mut container: Option<Container>, recording: &Recording) -> Result<End> {
        let began = Instant::now();
        let log = container.as_ref().map(|container| container.container.log.clone());
        let mut line = self.line.as_ref().zip(log).map(|(regex, log)| LineSeen::new(regex, &log));
        let mut ready = self.ready.as_ref().map(Ready::new);
        let mut settled = self.settled.map(Settled::new);
        // Of a program that is recorded to its end, what comes once it has settled is its main run.
        let mut start_up = Some(Settled::new(Quiet::DEFAULT));
        loop {
            let at = began.elapsed();
            let files = recording.files_seen();
            if recording.has_failed() {
                // What failed is told when it is stopped.
                return Ok(End::Stopped);
            }
            if let Some(line) = &mut line
                && line.look()?
            {
                return Ok(End::LogLine);
            }
            if let Some(port) = self.port
                && port::answers(port).await
            {
                return Ok(End::Port(port));
            }
            if let (Some(ready), Some(container)) = (&mut ready, &mut container)
                && ready.look(container, at).await
            {
                return Ok(End::Ready);
            }
            if let Some(settled) = &mut settled
                && settled.observe(at, files)
            {
                return Ok(End::Settled);
            }
            if start_up.as_mut().is_some_and(|start_up| start_up.observe(at, files)) {
                recording.started_up(Quiet::DEFAULT.time);
                start_up = None;
            }
            if at >= self.time_limit {
                return Ok(End::Timeout);
            }
            tokio::time::sleep(POLL.min(self.time_limit - at)).await;
        }
    }
}

/// Waits for the end of a container's main process; its exit code.
pub(crate) async fn exit_code(runtime: &mut Runtime, container: &str) -> Result<u32> {
    let exit = runtime.wait_exit(container, FOREVER).await?;
    Ok(u32::try_from(exit.code).unwrap_or(u32::MAX))
}

/// The same for a container that others may remove meanwhile.
pub(crate) async fn exited(runtime: &mut Runtime, container: &str) -> Result<End> {
    match exit_code(runtime, container).await {
        Ok(code) => Ok(End::Exited(code)),
        Err(_) if runtime.container(container).await?.is_none() => Ok(End::Stopped),
        Err(error) => Err(error),
    }
}

/// Waits until no process is left in a cgroup and those below it.
pub(crate) async fn emptied(cgroup: &Path) -> Result<End> {
    while cgroup.exists() && tracer_ebpf::cgroup::is_populated(cgroup).context("looking for processes")? {
        tokio::time::sleep(POLL).await;
    }
    Ok(End::Stopped)
}

/// As in "recording until ...".
impl fmt::Display for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it exits")?;
        if let Some(line) = &self.line {
            write!(f, ", writes a line like {line}")?;
        }
        if let Some(port) = self.port {
            write!(f, ", answers on port {port}")?;
        }
        if let Some(probe) = &self.ready {
            write!(f, ", is ready ({probe})")?;
        }
        if let Some(quiet) = self.settled {
            write!(f, ", settles ({quiet})")?;
        }
        write!(f, ", for at most {}", humantime::format_duration(self.time_limit))
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
    fn what_holds_follows_from_what_was_said() {
        let cases: [(&[&str], bool, &str); 8] = [
            (&[], false, "it exits, for at most 1m"),
            (&[], true, "it exits, settles (fewer than 10 new files within 10s), for at most 1m"),
            (&["--time-limit=2m"], true, "it exits, for at most 2m"),
            (&["--until-line=^up$"], true, "it exits, writes a line like ^up$, for at most 1m"),
            (&["--until-port=80"], true, "it exits, answers on port 80, for at most 1m"),
            (&["--until-settled"], false, "it exits, settles (fewer than 10 new files within 10s), for at most 1m"),
            (&["--until-settled=3/1m"], true, "it exits, settles (fewer than 3 new files within 1m), for at most 1m"),
            (
                &[
                    "--until-settled=1/2s",
                    "--until-port=1",
                    "--until-line=x",
                    "--until-ready=cat /ok",
                    "--time-limit=3s",
                ],
                false,
                "it exits, writes a line like x, answers on port 1, is ready (cat /ok), settles (fewer than 1 new files within 2s), \
                 for at most 3s",
            ),
        ];
        for (words, as_it_is, expected) in cases {
            assert_eq!(parse(words).unwrap().conditions(as_it_is).to_string(), expected, "{words:?}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let bad = [
            "--time-limit=soon",
            "--until-line=(",
            "--until-port=0",
            "--until-port=65536",
            "--until-settled=10",
            "--until-ready= ",
        ];
        for word in bad {
            assert!(parse(&[word]).is_err(), "{word} was accepted");
        }
    }
}
