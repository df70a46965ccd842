//! Stops what containerd leaves running on purpose.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::ctr;

/// How long a killed process may take to end.
const GONE: Duration = Duration::from_secs(10);

/// Kills every container of CRI's namespace.
pub(super) fn kill_containers(socket: &Path) -> Result<()> {
    for task in ctr(socket, &["tasks", "ls", "--quiet"])?.lines() {
        // It may have ended by itself meanwhile.
        if let Err(error) = ctr(socket, &["tasks", "rm", "--force", task]) {
            tracing::debug!(task, error = format!("{error:#}"), "task not removed");
        }
    }
    Ok(())
}

/// Kills the shims of the containerd at `socket` and all processes in their containers.
pub(super) fn kill_shims(socket: &Path) -> Result<()> {
    for shim in shims(socket)? {
        for pid in descendants(shim)?.into_iter().chain([shim]) {
            match kill(pid, Signal::SIGKILL) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(error) => return Err(error).with_context(|| format!("cannot kill process {pid}")),
            }
        }
    }
    let end = Instant::now() + GONE;
    while !shims(socket)?.is_empty() {
        if Instant::now() > end {
            bail!("shims of {} are still there after {GONE:?}", socket.display());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn processes() -> Result<Vec<i32>> {
    let entries = fs::read_dir("/proc").context("cannot list /proc")?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
}

fn shims(socket: &Path) -> Result<Vec<Pid>> {
    let is_ours = |pid: &i32| {
        // A process that ends meanwhile no longer has arguments.
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut arguments = arguments.split(|byte| *byte == 0);
        arguments.next().is_some_and(|program| program.ends_with(b"containerd-shim-runc-v2"))
            && arguments.any(|argument| argument == socket.as_os_str().as_encoded_bytes())
    };
    Ok(processes()?.into_iter().filter(is_ours).map(Pid::from_raw).collect())
}

fn descendants(ancestor: Pid) -> Result<Vec<Pid>> {
    let parents: Vec<(i32, i32)> = processes()?.into_iter().filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let mut found = vec![ancestor.as_raw()];
    let mut next = 0;
    while let Some(&process) = found.get(next) {
        found.extend(parents.iter().filter(|(_, parent)| *parent == process).map(|(pid, _)| *pid));
        next += 1;
    }
    Ok(found.into_iter().skip(1).map(Pid::from_raw).collect())
}

fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may contain anything.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// Unmounts everything below `directory`, the newest mount first.
pub(super) fn unmount_below(directory: &Path) -> Result<()> {
    let directory = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
    let table = fs::read_to_string("/proc/self/mountinfo").context("cannot read the mounts")?;
    for point in table.lines().rev().filter_map(|line| Some(PathBuf::from(unescape(line.split(' ').nth(4)?)))) {
        if point.starts_with(&directory) {
            match umount2(&point, MntFlags::MNT_DETACH) {
                Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
                Err(error) => return Err(error).with_context(|| format!("cannot unmount {}", point.display())),
            }
        }
    }
    Ok(())
}

/// The kernel writes spaces and such in mount points as `\` and three octal digits.
fn unescape(field: &str) -> String {
    let mut parts = field.split('\\');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                text.push(char::from(byte));
                text.push_str(&part[3..]);
            }
            None => text.push_str(part),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_may_have_spaces() {
        assert_eq!(unescape(r"/a\040b\134c"), r"/a b\c");
        assert_eq!(unescape("/plain"), "/plain");
    }
}
