//! Stops the processes of cgroups, also those that come into them, until they may go on.
//!
//! A container's first process is stopped by freezing the cgroup *above* the container's. Its own will not do: runc refuses
//! to start in a cgroup that was itself frozen (version 2: `cgroup.freeze`, version 1: `freezer.self_freezing`), but does
//! not mind one that stands still because of those above it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cgroup::{Hierarchy, Version};
use crate::{Error, mounts};

/// What freezes the cgroups of a hierarchy.
#[derive(Debug, Clone)]
pub(crate) struct Freezer {
    /// Where the hierarchy is mounted by which containers are told apart, and where the one that freezes. The same in
    /// version 2; every runtime gives a container the same path in both.
    identity: PathBuf,
    point: PathBuf,
    switch: Switch,
}

/// The file of a cgroup that freezes it, and what is written to it.
#[derive(Debug, Clone, Copy)]
struct Switch {
    file: &'static str,
    frozen: &'static str,
    thawed: &'static str,
}

const TWO: Switch = Switch { file: "cgroup.freeze", frozen: "1", thawed: "0" };
const ONE: Switch = Switch { file: "freezer.state", frozen: "FROZEN", thawed: "THAWED" };

impl Freezer {
    /// The one that goes with the hierarchy by which containers are told apart.
    pub(crate) fn of_host(hierarchy: &Hierarchy) -> Result<Self, Error> {
        let identity = hierarchy.point.clone();
        if hierarchy.version == Version::Two {
            return Ok(Self { point: identity.clone(), identity, switch: TWO });
        }
        let freezer = mounts::own()?.into_iter().find(|mount| mount.kind == "cgroup" && mount.has_option("freezer"));
        Ok(Self { identity, point: freezer.ok_or(Error::NoFreezerMounted)?.point, switch: ONE })
    }

    /// Freezes the cgroup above `cgroup`, a directory of the hierarchy by which containers are told apart.
    pub(crate) fn freeze_above(&self, cgroup: &Path) -> Result<Frozen, Error> {
        let inside = cgroup.strip_prefix(&self.identity).ok().and_then(Path::parent);
        let inside = inside.ok_or_else(|| Error::NoCgroup(cgroup.into()))?;
        let path = self.point.join(inside).join(self.switch.file);
        // Before the write: should it fail half-way, thawing does no harm.
        let frozen = Frozen { path, switch: self.switch };
        match fs::write(&frozen.path, self.switch.frozen) {
            Ok(()) => Ok(frozen),
            Err(source) => Err(Error::NoFreezer { path: frozen.path.clone(), source }),
        }
    }
}

/// A cgroup whose processes stand still. They go on when this is dropped.
#[derive(Debug)]
pub(crate) struct Frozen {
    path: PathBuf,
    switch: Switch,
}

impl Drop for Frozen {
    fn drop(&mut self) {
        if let Err(error) = fs::write(&self.path, self.switch.thawed) {
            let (file, text) = (self.path.display(), self.switch.thawed);
            tracing::warn!(%file, %error, "cannot thaw a cgroup; write {text} to the file");
        }
    }
}
