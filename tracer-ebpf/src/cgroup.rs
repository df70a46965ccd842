//! Cgroups, which identify containers, and a cgroup created in advance for a container to join.
//!
//! A container runtime with the cgroupfs driver puts a container into `<parent>/<container id>` of every hierarchy, and
//! accepts a directory that exists already. So the recorder can follow the cgroup before the container's first process
//! exists. `docs/src/recorder.md` explains why this has no race.

use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, thread};

use nix::errno::Errno;

use crate::Error;
use crate::mounts::{self, Mount};

/// The version of a cgroup hierarchy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// One hierarchy per controller. The recorder uses that of `pids`, which every runtime puts containers into.
    V1,
    /// One hierarchy for all controllers.
    V2,
}

/// A mounted cgroup hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Version 1 (of the controller `pids`) or 2.
    pub version: Version,
    /// Where the hierarchy is mounted.
    pub mount_point: PathBuf,
}

impl Hierarchy {
    /// Finds the hierarchy that identifies containers on this host: that of version 2 if it is mounted, also beside version 1
    /// (runc joins it there), otherwise that of the version 1 controller `pids`. `version` overrides this.
    pub fn detect(version: Option<Version>) -> Result<Self, Error> {
        Self::choose(&mounts::own_mounts()?, version).ok_or(Error::NoCgroupHierarchy)
    }

    fn choose(mounts: &[Mount], version: Option<Version>) -> Option<Self> {
        let found = |version: Version| {
            let mount = mounts.iter().find(|mount| match version {
                Version::V2 => mount.kind == "cgroup2",
                Version::V1 => mount.kind == "cgroup" && mount.has_option("pids"),
            })?;
            Some(Self { version, mount_point: mount.point.clone() })
        };
        match version {
            Some(version) => found(version),
            None => found(Version::V2).or_else(|| found(Version::V1)),
        }
    }

    /// The directory of a cgroup, given its absolute path within the hierarchy.
    pub fn directory(&self, path: &Path) -> PathBuf {
        self.mount_point.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The directory of a process's cgroup. None if that is the hierarchy's root.
    pub fn cgroup_of_process(&self, process: u32) -> Result<Option<PathBuf>, Error> {
        let path = PathBuf::from(format!("/proc/{process}/cgroup"));
        let text = fs::read_to_string(&path).map_err(|source| Error::File { what: "read", path, source })?;
        Ok(parse_process_cgroup(&text, self.version).map(|path| self.directory(path)))
    }
}

/// Parses `/proc/<process>/cgroup` (cgroups(7)): lines of number, controllers, path.
fn parse_process_cgroup(text: &str, version: Version) -> Option<&Path> {
    let path = text.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let controllers = fields.next()?;
        let path = fields.next()?;
        let matches = match version {
            Version::V2 => controllers.is_empty(),
            Version::V1 => controllers.split(',').any(|controller| controller == "pids"),
        };
        matches.then_some(path)
    });
    path.filter(|path| *path != "/").map(Path::new)
}

/// Whether a cgroup or one below it contains a process.
pub fn is_populated(directory: &Path) -> io::Result<bool> {
    let found = || {
        if !fs::read_to_string(directory.join("cgroup.procs"))?.is_empty() {
            return Ok(true);
        }
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() && is_populated(&entry.path())? {
                return Ok(true);
            }
        }
        Ok(false)
    };
    // Cgroups are removed while they are looked at, with all their processes.
    let is_removed = |error: &io::Error| {
        error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(Errno::ENODEV as i32)
    };
    found().or_else(|error| if is_removed(&error) { Ok(false) } else { Err(error) })
}

/// The kernel's id of a cgroup: the inode number of its directory.
pub(crate) fn id(directory: &Path) -> Result<u64, Error> {
    let open = |source| Error::File { what: "find cgroup", path: directory.into(), source };
    let metadata = fs::metadata(directory).map_err(open)?;
    if !directory.join("cgroup.procs").is_file() {
        return Err(Error::NotACgroup(directory.into()));
    }
    Ok(metadata.ino())
}

/// A cgroup created here. Dropping it removes the cgroup and the parents created for it, unless processes remain in them.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    created: Vec<PathBuf>,
}

impl Cgroup {
    /// Creates a cgroup and its missing parents, given its absolute path within the hierarchy (`/parent/name`).
    pub fn create(hierarchy: &Hierarchy, path: &Path) -> Result<Self, Error> {
        let mut cgroup = Self { path: hierarchy.mount_point.clone(), created: Vec::new() };
        for part in path.iter().filter(|part| *part != OsStr::new("/")) {
            cgroup.path.push(part);
            match fs::create_dir(&cgroup.path) {
                Ok(()) => cgroup.created.push(cgroup.path.clone()),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(Error::File { what: "create cgroup", path: cgroup.path.clone(), source }),
            }
        }
        Ok(cgroup)
    }

    /// The cgroup's directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        self.created.iter().rev().for_each(|directory| remove(directory));
    }
}

/// The cgroups that did not exist before a container was created. Dropping it removes them in all hierarchies.
///
/// A container runtime creates the parents of a container's cgroup, but does not remove them with the container.
#[derive(Debug)]
pub struct Leftovers {
    absent: Vec<PathBuf>,
}

impl Leftovers {
    /// Notes which of a cgroup and its parents do not exist yet. `path` is absolute within the hierarchies.
    pub fn note(path: &Path) -> Result<Self, Error> {
        let mounts = mounts::own_mounts()?;
        let absent = mounts
            .iter()
            .filter(|mount| matches!(mount.kind.as_str(), "cgroup" | "cgroup2"))
            .flat_map(|mount| {
                let parts = path.ancestors().filter_map(|part| part.strip_prefix("/").ok());
                parts.filter(|part| *part != Path::new("")).map(|part| mount.point.join(part))
            })
            .filter(|directory| !directory.exists())
            .collect();
        Ok(Self { absent })
    }
}

impl Drop for Leftovers {
    fn drop(&mut self) {
        self.absent.iter().for_each(|directory| remove(directory));
    }
}

/// Removes a cgroup's directory. Retries, because a cgroup stays busy for a moment after its last process was reaped.
fn remove(directory: &Path) {
    for _ in 0..50 {
        match fs::remove_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                thread::sleep(Duration::from_millis(10));
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(cgroup = %directory.display(), %error, "cannot remove cgroup");
                return;
            }
            _ => return,
        }
    }
    tracing::warn!(cgroup = %directory.display(), "cgroup not removed: still in use");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::mounts::tests::mounts as parsed;

    #[test]
    fn the_hierarchy_is_found_on_every_kind_of_host() {
        let v1 = "1 0 0:20 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                   2 0 0:21 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n";
        let unified = "3 0 0:22 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let v2 = "3 0 0:22 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";
        let found = |version, point: &str| Some(Hierarchy { version, mount_point: point.into() });
        let cases = [
            (v1.to_owned(), None, found(Version::V1, "/sys/fs/cgroup/pids")),
            (format!("{v1}{unified}"), None, found(Version::V2, "/sys/fs/cgroup/unified")),
            (format!("{v1}{unified}"), Some(Version::V1), found(Version::V1, "/sys/fs/cgroup/pids")),
            (v2.to_owned(), None, found(Version::V2, "/sys/fs/cgroup")),
            (v2.to_owned(), Some(Version::V1), None),
            (String::new(), None, None),
        ];
        for (mounts, version, expected) in cases {
            assert_eq!(Hierarchy::choose(&parsed(&mounts), version), expected, "{mounts} {version:?}");
        }
    }

    #[test]
    fn a_process_cgroup_is_parsed_for_both_versions() {
        let text = "8:pids:/kubepods/pod1/abc\n4:memory:/x\n1:name=systemd:/y\n0::/kubepods/pod1/unified\n";
        assert_eq!(parse_process_cgroup(text, Version::V1), Some(Path::new("/kubepods/pod1/abc")));
        assert_eq!(parse_process_cgroup(text, Version::V2), Some(Path::new("/kubepods/pod1/unified")));
        assert_eq!(parse_process_cgroup("0::/\n", Version::V2), None);
        assert_eq!(parse_process_cgroup("", Version::V1), None);
    }
}
