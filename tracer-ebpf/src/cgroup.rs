//! The cgroup v2 hierarchy: where it is, and a cgroup made in advance for a container to join.
//!
//! A container runtime with the cgroupfs driver puts a container into `<parent>/<container id>` of every hierarchy,
//! and is content with a directory that is already there. So the recorder can hold the cgroup before the container's
//! first process exists.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, thread};

use crate::{Error, host};

/// Where the cgroup v2 hierarchy is mounted: `/sys/fs/cgroup`, or `/sys/fs/cgroup/unified` on hosts that still have
/// version 1 controllers.
pub fn hierarchy() -> Result<PathBuf, Error> {
    let mounts = host::mounts()?;
    mounts.into_iter().find(|m| m.kind == "cgroup2").map(|m| m.point).ok_or(Error::NoCgroup2)
}

/// A cgroup that was made here and is removed with this value, if it is still there and has no process left.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    made: Vec<PathBuf>,
}

impl Cgroup {
    /// Makes the cgroup `path`, which is absolute within the hierarchy (`/parent/name`), with the parents it needs.
    pub fn create(path: &Path) -> Result<Self, Error> {
        let mut cgroup = Self { path: hierarchy()?, made: Vec::new() };
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
        let mounts = host::mounts()?;
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
