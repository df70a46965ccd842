//! Removes mounts, cgroups and the directory of a run. Used by the run itself and by the next one.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::FlockArg;
use nix::mount::{MntFlags, umount2};

use super::run::{PREFIX, UNLOCKED_PREFIX, base, lock};

/// How long a cgroup may stay busy after the kill of its last process.
const CGROUP_LIMIT: Duration = Duration::from_secs(10);
/// Name of a directory kept because of `TESTBED_KEEP`.
const KEPT_PREFIX: &str = "cvmfs-prefetch-kept-";

/// The needed fields of a line of `/proc/self/mountinfo`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) point: PathBuf,
    pub(super) file_system: String,
}

/// Skips lines that cannot be parsed. Format: proc_pid_mountinfo(5).
fn parse_mounts(mountinfo: &str) -> Vec<Mount> {
    let parse = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        let point = left.split(' ').nth(4)?;
        let point = point.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\");
        Some(Mount { point: point.into(), file_system: right.split(' ').next()?.to_owned() })
    };
    mountinfo.lines().filter_map(parse).collect()
}

pub(super) fn mounts() -> Vec<Mount> {
    parse_mounts(&std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
}

/// Detaches every mount of this namespace below `directory`, newest first.
pub(super) fn unmount_below(directory: &Path) {
    for mount in mounts().into_iter().rev().filter(|m| m.point.starts_with(directory)) {
        if let Err(errno) = umount2(&mount.point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            eprintln!("testbed: cannot unmount {}: {errno}", mount.point.display());
        }
    }
}

/// Mount points of the cgroup hierarchies.
pub fn cgroup_hierarchies() -> impl Iterator<Item = PathBuf> {
    mounts().into_iter().filter(|m| m.file_system.starts_with("cgroup")).map(|m| m.point)
}

/// Removes the cgroups of the run `name`, whose processes are dead or dying.
pub(super) fn remove_cgroups(name: &str) {
    let end = Instant::now() + CGROUP_LIMIT;
    for hierarchy in cgroup_hierarchies() {
        let cgroup = hierarchy.join(name);
        while let Err(error) = remove_cgroup(&cgroup) {
            if Instant::now() > end {
                eprintln!("testbed: cannot remove the cgroup {}: {error}", cgroup.display());
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn remove_cgroup(cgroup: &Path) -> std::io::Result<()> {
    let children = match std::fs::read_dir(cgroup) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for child in children {
        let child = child?;
        if child.file_type()?.is_dir() {
            remove_cgroup(&child.path())?;
        }
    }
    std::fs::remove_dir(cgroup)
}

/// Removes the directory of a run (keeps it under another name if `TESTBED_KEEP` is set).
pub(super) fn remove_directory(directory: &Path) {
    if std::env::var_os("TESTBED_KEEP").is_some() && directory.exists() {
        let name = directory.file_name().unwrap_or_default().to_string_lossy().replace(PREFIX, KEPT_PREFIX);
        let kept = directory.with_file_name(name);
        match std::fs::rename(directory, &kept) {
            Ok(()) => eprintln!("testbed: kept {}", kept.display()),
            Err(error) => eprintln!("testbed: cannot keep {}: {error}", directory.display()),
        }
        return;
    }
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            eprintln!("testbed: cannot remove {}: {error}", directory.display());
        }
        _ => {}
    }
}

/// Removes what is left of runs that were killed together with their init.
pub(super) fn sweep() {
    for entry in std::fs::read_dir(base()).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let dead = if name.starts_with(PREFIX) {
            // The lock of a dead run is free.
            lock(&entry.path(), FlockArg::LockExclusiveNonblock).is_ok()
        } else {
            name.strip_prefix(UNLOCKED_PREFIX).is_some_and(is_of_dead_process)
        };
        if dead && let Err(error) = std::fs::remove_dir_all(entry.path()) {
            eprintln!("testbed: cannot remove {} of an earlier run: {error}", entry.path().display());
        }
    }
    for hierarchy in cgroup_hierarchies() {
        for entry in std::fs::read_dir(hierarchy).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.strip_prefix(PREFIX).is_some_and(is_of_dead_process) {
                // Busy: it belongs to a live run in another PID namespace.
                let _ = remove_cgroup(&entry.path());
            }
        }
    }
}

/// Whether the process of `<pid>-<number>` has ended.
fn is_of_dead_process(identity: &str) -> bool {
    let pid = identity.split('-').next().unwrap_or_default();
    pid.parse::<u32>().is_ok() && !Path::new("/proc").join(pid).exists()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn mount_points_and_types_are_found() {
        let text = "36 35 98:0 / /a\\040b rw,noatime shared:1 - ext3 /dev/root rw\n\
                    37 36 0:5 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\nnonsense\n";
        let mount = |point: &str, file_system: &str| Mount { point: point.into(), file_system: file_system.into() };
        assert_eq!(parse_mounts(text), [mount("/a b", "ext3"), mount("/sys/fs/cgroup/pids", "cgroup")]);
    }

    #[test]
    fn only_dead_processes_are_swept() {
        assert!(!is_of_dead_process(&format!("{}-0", std::process::id())));
        assert!(!is_of_dead_process("nonsense"));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        assert!(is_of_dead_process(&format!("{}-3", child.id())));
    }
}
