//! The output of `cvmfs_config showconfig`: the parameters as the client itself reads its files.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::shell::Values;

/// Maximum number of bytes of output that are read.
const MAX_OUTPUT: usize = 1 << 20;

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
    let mut child = Command::new(program)
        .args(["showconfig", "-s", fqrn])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(io)?;
    let read = child.stdout.take().map_or(Ok(Some(Vec::new())), |output| read(output, timeout));
    // It has closed its output or is late; in neither case is it still needed.
    let _ = child.kill();
    let _ = child.wait();
    let Some(output) = read.map_err(io)? else { return Err(ShowconfigError::Timeout { command, timeout }) };
    let values = parse(&String::from_utf8_lossy(&output));
    if values.keys().any(|key| key.starts_with("CVMFS_")) {
        Ok(values)
    } else {
        Err(ShowconfigError::Empty { command })
    }
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
            ("hangs", "exec sleep 60".into(), "did not end"),
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
    }
}
