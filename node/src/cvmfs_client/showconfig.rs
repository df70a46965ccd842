//! The output of `cvmfs_config showconfig`: the parameters as the client itself reads its files.
//!
//! The program is a shell script that reads the configuration repository through its mount. If that hangs, its processes cannot even
//! be killed, so their number is limited.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use parking_lot::Mutex;

use super::shell::Values;

/// Maximum number of bytes of output that are read.
const MAX_OUTPUT: usize = 1 << 20;

/// Maximum number of runs whose processes did not end when they were killed. Then no more are started.
const MAX_HUNG: usize = 4;
/// How long killed processes have to end.
const END: Duration = Duration::from_millis(500);
/// Interval at which that is checked.
const POLL: Duration = Duration::from_millis(2);

/// Runs whose processes did not end when they were killed.
static HUNG: LazyLock<Mutex<Vec<Run>>> = LazyLock::new(Mutex::default);

/// Path of `cvmfs_config`, if it is in `PATH`.
pub fn program() -> Option<PathBuf> {
    let directories = std::env::var_os("PATH")?;
    std::env::split_paths(&directories).map(|dir| dir.join("cvmfs_config")).find(|path| path.is_file())
}

/// Why `cvmfs_config` gave no parameters.
#[derive(Debug, thiserror::Error)]
pub enum ShowconfigError {
    /// The program cannot be started, or its output cannot be read.
    #[error("{command}: {source}")]
    Io {
        /// The command line.
        command: String,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The program did not close its output in time.
    #[error("{command} did not end within {} s", timeout.as_secs_f32())]
    Timeout {
        /// The command line.
        command: String,
        /// The timeout.
        timeout: Duration,
    },
    /// The program was not started.
    #[error("{command} was not started: {runs} earlier runs hang; see whether the configuration repository responds")]
    Hung {
        /// The command line.
        command: String,
        /// Number of earlier runs that hang.
        runs: usize,
    },
    /// The output has no parameter.
    #[error("{command} printed no parameters")]
    Empty {
        /// The command line.
        command: String,
    },
}

/// Runs `program` to get the parameters of `fqrn`.
pub fn query(program: &Path, fqrn: &str, timeout: Duration) -> Result<Values, ShowconfigError> {
    let command = format!("{} showconfig -s {fqrn}", program.display());
    let io = |source| ShowconfigError::Io { command: command.clone(), source };
    let runs = hung();
    if runs >= MAX_HUNG {
        return Err(ShowconfigError::Hung { command, runs });
    }
    let mut child = Command::new(program)
        .args(["showconfig", "-s", fqrn])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(io)?;
    let read = child.stdout.take().map_or(Ok(Some(Vec::new())), |output| read(output, timeout));
    // It has closed its output or is late; in neither case is it still needed.
    Run(child).end();
    let Some(output) = read.map_err(io)? else { return Err(ShowconfigError::Timeout { command, timeout }) };
    let values = parse(&String::from_utf8_lossy(&output));
    if values.keys().any(|key| key.starts_with("CVMFS_")) {
        Ok(values)
    } else {
        Err(ShowconfigError::Empty { command })
    }
}

/// A run of the program: a process group.
#[derive(Debug)]
struct Run(Child);

impl Run {
    /// Kills all processes of the run. Those that do not end are remembered.
    fn end(mut self) {
        // The group may have ended already.
        let _ = killpg(self.group(), Signal::SIGKILL);
        let end = Instant::now() + END;
        while !self.has_ended() {
            if Instant::now() >= end {
                HUNG.lock().push(self);
                return;
            }
            std::thread::sleep(POLL);
        }
    }

    fn has_ended(&mut self) -> bool {
        // While a process of the group is left, no other group gets its number.
        let is_left = |run: &Self| killpg(run.group(), None) != Err(Errno::ESRCH) && has_living_process(run.group());
        !matches!(self.0.try_wait(), Ok(None)) && !is_left(self)
    }

    fn group(&self) -> Pid {
        Pid::from_raw(self.0.id() as i32)
    }
}

/// Whether a process group has a process that has not ended. Ended ones may stay for as long as nobody waits for them.
fn has_living_process(group: Pid) -> bool {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut stats = processes.filter_map(|process| std::fs::read_to_string(process.path().join("stat")).ok());
    // After the name, which may contain any character: state, parent, group.
    stats.any(|stat| match stat.rsplit_once(')').map(|(_, fields)| fields.split_whitespace().collect::<Vec<_>>()) {
        Some(fields) => !matches!(fields[..], ["Z" | "X", ..]) && fields.get(2) == Some(&group.to_string().as_str()),
        None => false,
    })
}

/// Number of earlier runs whose processes are still there.
fn hung() -> usize {
    let mut hung = HUNG.lock();
    hung.retain_mut(|run| !run.has_ended());
    hung.len()
}

/// Reads the output of a program to its end, or to [`MAX_OUTPUT`] bytes; none if it does not end in time.
fn read(mut output: ChildStdout, timeout: Duration) -> io::Result<Option<Vec<u8>>> {
    let end = Instant::now() + timeout;
    let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
    while bytes.len() < MAX_OUTPUT {
        let rest = end.saturating_duration_since(Instant::now());
        let rest = PollTimeout::try_from(rest).unwrap_or(PollTimeout::MAX);
        if poll(&mut [PollFd::new(output.as_fd(), PollFlags::POLLIN)], rest)? == 0 {
            return Ok(None);
        }
        match output.read(&mut piece)? {
            0 => break,
            read => bytes.extend_from_slice(&piece[..read]),
        }
    }
    Ok(Some(bytes))
}

/// Parses lines of the form `KEY=value    # from /etc/cvmfs/default.conf`; other lines are messages for people.
pub fn parse(text: &str) -> Values {
    let assignment = |line: &str| {
        let (key, rest) = line.split_once('=')?;
        let value = rest.rsplit_once("    # from ").map_or(rest, |(value, _)| value).trim_end();
        let is_key = key.starts_with("CVMFS_") && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        // These are not a shell's quotes: a quote inside is escaped as \'.
        let inner = value.strip_prefix('\'').and_then(|v| v.strip_suffix('\''));
        is_key.then(|| (key.to_owned(), inner.map_or(value.to_owned(), |v| v.replace("\\'", "'"))))
    };
    text.lines().filter_map(assignment).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const PRINTED: &str = "CVMFS_REPOSITORY_NAME=unpacked.cern.ch
CVMFS_CACHE_BASE=/var/lib/cvmfs    # from /etc/cvmfs/default.conf
CVMFS_HTTP_PROXY='http://a:3128|http://b:3128;DIRECT'    # from /etc/cvmfs/default.local
CVMFS_X='it\\'s # from here'    # from /etc/cvmfs/default.local
CVMFS_EMPTY=    # from /etc/cvmfs/default.conf
Warning: a = b
";

    #[test]
    fn printed_parameters_are_read() {
        let values = parse(PRINTED);
        assert_eq!(values["CVMFS_CACHE_BASE"], "/var/lib/cvmfs");
        assert_eq!(values["CVMFS_HTTP_PROXY"], "http://a:3128|http://b:3128;DIRECT");
        assert_eq!(values["CVMFS_X"], "it's # from here");
        assert_eq!((values["CVMFS_EMPTY"].as_str(), values.len()), ("", 5));
    }

    #[test]
    fn a_program_that_hangs_or_prints_nothing_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let cases = [
            ("prints", format!("test \"$*\" = 'showconfig -s a.b' && cat <<'X'\n{PRINTED}X"), ""),
            ("nothing", "exit 0".into(), "no parameters"),
            ("hangs", "sleep 60; echo".into(), "did not end"),
        ];
        for (name, script, expected) in cases {
            let program = dir.path().join(name);
            std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
            std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
            let deadline = Duration::from_millis(if name == "hangs" { 50 } else { 30_000 });
            match query(&program, "a.b", deadline) {
                Ok(values) => assert_eq!((values.len(), expected), (5, ""), "{name}"),
                Err(error) => {
                    assert!(!expected.is_empty() && error.to_string().contains(expected), "{name}: {error}");
                }
            }
        }
        assert_eq!(hung(), 0, "processes were left");
    }
}
