//! When a recording ends: the flags, their defaults, and the loop that checks the conditions.
//!
//! The container's exit and the timeout always end a recording. A COMMAND on the command line is recorded until then. An image
//! with its own entry point and without any flag is taken for a service: it does not exit, and has started when it settles.

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

/// How often the conditions are checked.
const POLL: Duration = Duration::from_millis(50);
/// The default of `--timeout`.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How long a runtime may take to know the exit of a container whose processes have all ended.
const EXIT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long to wait for a container's exit; the recording ends much earlier.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 86400);

#[derive(clap::Args)]
#[group(id = "until", multiple = true)]
#[command(next_help_heading = "End of the recording (the container's exit, or the first of these)")]
pub(crate) struct UntilArgs {
    /// Maximum duration, e.g. 90s or 5m [default: 60s]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,
    /// Stop when a line of the container's output matches
    #[arg(long, value_name = "REGEX")]
    until_line: Option<Regex>,
    /// Stop when this TCP port of the loopback interface answers
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    until_port: Option<u16>,
    /// Stop when this command succeeds in the container; the words are separated by spaces
    ///
    /// The command runs once a second, as the exec probe of a kubelet does.
    #[arg(long, value_name = "COMMAND")]
    until_ready: Option<Probe>,
    /// Stop when fewer than FILES new files appear within TIME. Default for services: 10/10s
    ///
    /// A service is a container without COMMAND, --timeout and another --until option.
    #[arg(long, value_name = "FILES/TIME", num_args = 0..=1, require_equals = true, default_missing_value = "10/10s")]
    until_settled: Option<Quiet>,
}

/// What ends a recording, beside the container's exit: the first condition that holds.
#[derive(Debug)]
pub(crate) struct Conditions {
    timeout: Duration,
    line: Option<Regex>,
    port: Option<u16>,
    ready: Option<Probe>,
    settled: Option<Quiet>,
}

/// A container that the conditions check.
pub(crate) struct Container {
    pub(crate) runtime: Runtime,
    pub(crate) container: tracer_ebpf::cri::Container,
}

impl UntilArgs {
    /// `own_entry_point`: the container runs what its image says, no COMMAND.
    pub(crate) fn conditions(&self, own_entry_point: bool) -> Conditions {
        let no_flag = self.timeout.is_none()
            && self.until_line.is_none()
            && self.until_port.is_none()
            && self.until_ready.is_none();
        let service = Some(Quiet::DEFAULT).filter(|_| own_entry_point && no_flag);
        Conditions {
            timeout: self.timeout.unwrap_or(TIMEOUT),
            line: self.until_line.clone(),
            port: self.until_port,
            ready: self.until_ready.clone(),
            settled: self.until_settled.or(service),
        }
    }
}

impl Conditions {
    /// Fails if a condition holds already. Call it before the container starts.
    pub(crate) async fn check(&self) -> Result<()> {
        if let Some(port) = self.port {
            ensure!(
                !port::answers(port).await,
                "port {port} answers already, before the container has started: give another port with --until-port"
            );
        }
        Ok(())
    }

    /// Whether a condition needs to know the container.
    pub(crate) fn need_container(&self) -> bool {
        self.line.is_some() || self.ready.is_some()
    }

    /// Waits for the first condition, and marks the end of the start-up phase on the way.
    pub(crate) async fn wait(&self, mut container: Option<Container>, recording: &Recording) -> Result<End> {
        let began = Instant::now();
        let log = container.as_ref().map(|container| container.container.log.clone());
        let mut line = self.line.as_ref().zip(log).map(|(regex, log)| LineSeen::new(regex, &log));
        let mut ready = self.ready.as_ref().map(Ready::new);
        let mut settled = self.settled.map(Settled::new);
        // A program that is recorded to its exit is in its main phase once it has settled.
        let mut start_up = Some(Settled::new(Quiet::DEFAULT));
        loop {
            let at = began.elapsed();
            let files = recording.files_seen();
            if recording.has_failed() {
                // Stopping it returns the error, if the trace cannot be finished.
                return Ok(End::CutShort);
            }
            if let Some(line) = &mut line
                && line.check()?
            {
                return Ok(End::LogLine);
            }
            if let Some(port) = self.port
                && port::answers(port).await
            {
                return Ok(End::Port(port));
            }
            if let (Some(ready), Some(container)) = (&mut ready, &mut container)
                && ready.check(container, at).await
            {
                return Ok(End::Ready);
            }
            if let Some(settled) = &mut settled
                && settled.observe(at, files)
            {
                return Ok(End::Settled);
            }
            if start_up.as_mut().is_some_and(|start_up| start_up.observe(at, files)) {
                recording.mark_started_up(Quiet::DEFAULT.time);
                start_up = None;
            }
            if at >= self.timeout {
                return Ok(End::Timeout);
            }
            tokio::time::sleep(POLL.min(self.timeout - at)).await;
        }
    }
}

/// Waits for the exit of a container's main process, and returns the exit code.
pub(crate) async fn exit_code(runtime: &mut Runtime, container: &str) -> Result<u32> {
    let exit = runtime.wait_exit(container, FOREVER).await?;
    Ok(u32::try_from(exit.code).unwrap_or(u32::MAX))
}

/// Waits for the end of a container of somebody else. The runtime may be restarted meanwhile, or somebody may remove the container:
/// it has ended when no process is left in its cgroup.
pub(crate) async fn exited(runtime: &mut Runtime, container: &str, cgroup: &Path) -> Result<End> {
    let code = async {
        match exit_code(runtime, container).await {
            Ok(code) => Ok(End::Exited(code)),
            Err(_) if runtime.container(container).await?.is_none() => emptied(cgroup).await,
            Err(error) => Err(error),
        }
    };
    let ended = async {
        while !is_populated(cgroup)? {
            tokio::time::sleep(POLL).await;
        }
        emptied(cgroup).await?;
        tokio::time::sleep(EXIT_TIMEOUT).await;
        Ok(End::Unknown)
    };
    tokio::select! {
        end = code => end,
        end = ended => end,
    }
}

/// Waits until no process is left in a cgroup and below it.
pub(crate) async fn emptied(cgroup: &Path) -> Result<End> {
    while is_populated(cgroup)? {
        tokio::time::sleep(POLL).await;
    }
    Ok(End::Stopped)
}

fn is_populated(cgroup: &Path) -> Result<bool> {
    tracer_ebpf::cgroup::is_populated(cgroup).context("cannot read the processes of the cgroup")
}

/// The end of "recording until ...".
impl fmt::Display for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it exits")?;
        if let Some(line) = &self.line {
            write!(f, ", prints a line that matches {line}")?;
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
        write!(f, ", for at most {}", humantime::format_duration(self.timeout))
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
        args: UntilArgs,
    }

    fn parse(words: &[&str]) -> Result<UntilArgs, clap::Error> {
        Line::try_parse_from([&["record"], words].concat()).map(|line| line.args)
    }

    #[test]
    fn services_settle_unless_a_flag_is_given() {
        let cases: [(&[&str], bool, &str); 8] = [
            (&[], false, "it exits, for at most 1m"),
            (&[], true, "it exits, settles (fewer than 10 new files within 10s), for at most 1m"),
            (&["--timeout=2m"], true, "it exits, for at most 2m"),
            (&["--until-line=^up$"], true, "it exits, prints a line that matches ^up$, for at most 1m"),
            (&["--until-port=80"], true, "it exits, answers on port 80, for at most 1m"),
            (&["--until-settled"], false, "it exits, settles (fewer than 10 new files within 10s), for at most 1m"),
            (&["--until-settled=3/1m"], true, "it exits, settles (fewer than 3 new files within 1m), for at most 1m"),
            (
                &["--until-settled=1/2s", "--until-port=1", "--until-line=x", "--until-ready=cat /ok", "--timeout=3s"],
                false,
                "it exits, prints a line that matches x, answers on port 1, is ready (cat /ok), settles (fewer than 1 new files within 2s), \
                 for at most 3s",
            ),
        ];
        for (words, own_entry_point, expected) in cases {
            assert_eq!(parse(words).unwrap().conditions(own_entry_point).to_string(), expected, "{words:?}");
        }
    }

    #[test]
    fn malformed_values_are_refused() {
        let bad = [
            "--timeout=soon",
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
