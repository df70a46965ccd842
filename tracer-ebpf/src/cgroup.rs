//! Cgroups, by which containers are told apart, and a cgroup made in advance for a container to join.
//!
//! A container runtime with the cgroupfs driver puts a container into `<parent>/<container id>` of every hierarchy,
//! and is content with a directory that is already there. So the recorder can hold the cgroup before the container's
//! first process exists. See `docs/src/recorder.md` for why there is no race in this.

use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, thread};

use crate::mounts::{self, Mount};
use crate::{Error, Options};

/// The two kinds of hierarchies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// A hierarchy for each controller; the one of `pids` is used, which every runtime puts a container into.
    One,
    /// One hierarchy for all.
    Two,
}

/// A hierarchy of cgroups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Of which kind it is.
    pub version: Version,
    /// Where it is mounted.
    pub point: PathBuf,
}

impl Hierarchy {
    /// The hierarchy of this host by which containers can be told apart: that of version 2 where there is one, also
    /// beside version 1 (runc joins it there), else that of the version 1 controller `pids`. [`Options::cgroups`]
    /// decides otherwise.
    pub fn of_host(options: &Options) -> Result<Self, Error> {
        Self::among(&mounts::own()?, options.cgroups).ok_or(Error::NoCgroups)
    }

    fn among(mounts: &[Mount], wanted: Option<Version>) -> Option<Self> {
        let found = |version: Version| {
            let mount = mounts.iter().find(|mount| match version {
                Version::Two => mount.kind == "cgroup2",
                Version::One => mount.kind == "cgroup" && mount.has_option("pids"),
            })?;
            Some(Self { version, point: mount.point.clone() })
        };
        match wanted {
            Some(version) => found(version),
            None => found(Version::Two).or_else(|| found(Version::One)),
        }
    }

    /// The directory of the cgroup `path`, which is absolute within the hierarchy.
    pub fn directory(&self, path: &Path) -> PathBuf {
        self.point.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The directory of the cgroup in which a process is. None if it is that of the hierarchy's root.
    pub fn of_process(&self, process: u32) -> Result<Option<PathBuf>, Error> {
        let path = PathBuf::from(format!("/proc/{process}/cgroup"));
        let text = fs::read_to_string(&path).map_err(|source| Error::File { what: "read", path, source })?;
        Ok(cgroup_in(&text, self.version).map(|path| self.directory(path)))
    }
}

/// The path in the text of `/proc/<process>/cgroup` (cgroups(7)): lines of number, controllers, path.
fn cgroup_in(text: &str, version: Version) -> Option<&Path> {
    let path = text.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let is = match version {
            Version::Two => controllers.is_empty(),
            Version::One => controllers.split(',').any(|controller| controller == "pids"),
        };
        is.then_some(path)
    });
    path.filter(|path| *path != "/").map(Path::new)
}

/// Whether there is a process in a cgroup or in one below it.
pub fn is_populated(directory: &Path) -> io::Result<bool> {
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
}

/// How the kernel calls a cgroup: the number of its directory's inode.
pub(crate) fn id(directory: &Path) -> Result<u64, Error> {
    let open = |source| Error::File { what: "find the cgroup", path: directory.into(), source };
    let metadata = fs::metadata(directory).map_err(open)?;
    if !directory.join("cgroup.procs").is_file() {
        return Err(Error::NoCgroup(directory.into()));
    }
    Ok(metadata.ino())
}

/// A cgroup that was made here and is removed with this value, if it is still there and has no process left.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    made: Vec<PathBuf>,
}

impl Cgroup {
    /// Makes the cgroup `path`, which is absolute within the hierarchy (`/parent/name`), with the parents it needs.
    pub fn create(hierarchy: &Hierarchy, path: &Path) -> Result<Self, Error> {
        let mut cgroup = Self { path: hierarchy.point.clone(), made: Vec::new() };
        for part in path.iter().filter(|part| *part != OsStr::new("/")) {
            cgroup.path.push(part);
            match fs::create_dir(&cgroup.path) {
                Ok(()) => cgroup.made.push(cgroup.path.clone()),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(Error::File { what: "make cgroup", path: cgroup.path.clone(), source }),
            }
        }
        Ok(cgroup)
    }

    /// The directory of the cgroup.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        self.made.iter().rev().for_each(|made| remove(made));
    }
}

/// Remembers which cgroups were not there, in any hierarchy, and removes them with this value.
///
/// A container runtime makes the parents of a container's cgroup, and leaves them when it removes the container.
#[derive(Debug)]
pub struct Leftovers {
    absent: Vec<PathBuf>,
}

impl Leftovers {
    /// Looks for `path`, which is absolute within the hierarchies, and its parents.
    pub fn note(path: &Path) -> Result<Self, Error> {
        let mounts = mounts::own()?;
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

/// A cgroup stays busy for a moment after its last process was reaped.
fn remove(directory: &Path) {
    for _ in 0..50 {
        match fs::remove_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                thread::sleep(Duration::from_millis(10));
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(cgroup = %directory.display(), %error, "cannot remove a cgroup");
                return;
            }
            _ => return,
        }
    }
    tracing::warn!(cgroup = %directory.display(), "a cgroup is still in use and was not removed");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::mounts::tests::mounts as parsed;

    #[test]
    fn the_hierarchy_is_found_on_every_kind_of_host() {
        let one = "1 0 0:20 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                   2 0 0:21 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n";
        let unified = "3 0 0:22 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let two = "3 0 0:22 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";
        let found = |version, point: &str| Some(Hierarchy { version, point: point.into() });
        let cases = [
            (one.to_owned(), None, found(Version::One, "/sys/fs/cgroup/pids")),
            (format!("{one}{unified}"), None, found(Version::Two, "/sys/fs/cgroup/unified")),
            (format!("{one}{unified}"), Some(Version::One), found(Version::One, "/sys/fs/cgroup/pids")),
            (two.to_owned(), None, found(Version::Two, "/sys/fs/cgroup")),
            (two.to_owned(), Some(Version::One), None),
            (String::new(), None, None),
        ];
        for (mounts, wanted, expected) in cases {
            assert_eq!(Hierarchy::among(&parsed(&mounts), wanted), expected, "{mounts} {wanted:?}");
        }
    }

    #[test]
    fn a_processs_cgroup_is_told_by_either_kind() {
        let text = "8:pids:/kubepods/pod1/abc\n4:memory:/x\n1:name=systemd:/y\n0::/kubepods/pod1/unified\n";
        assert_eq!(cgroup_in(text, Version::One), Some(Path::new("/kubepods/pod1/abc")));
        assert_eq!(cgroup_in(text, Version::Two), Some(Path::new("/kubepods/pod1/unified")));
        assert_eq!(cgroup_in("0::/\n", Version::Two), None);
        assert_eq!(cgroup_in("", Version::One), None);
    }
}
