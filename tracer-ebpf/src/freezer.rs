//! Freezes cgroups: stops their processes, including those that join later, until the cgroup is thawed.
//!
//! To stop a container's first process, the cgroup *above* the container's is frozen. runc refuses to start a container in a
//! cgroup that is itself frozen (version 2: `cgroup.freeze`, version 1: `freezer.self_freezing`), but accepts one that is
//! frozen through its parent.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cgroup::{Hierarchy, Version};
use crate::{Error, mounts};

/// Knows the hierarchy that can freeze cgroups, and how.
#[derive(Debug, Clone)]
pub(crate) struct Freezer {
    /// Where the hierarchy that identifies containers is mounted.
    identity: PathBuf,
    /// Where the hierarchy that freezes is mounted: with version 2 the same one. Runtimes give a container the same path in
    /// both.
    mount_point: PathBuf,
    switch: Switch,
}

/// The file that freezes a cgroup, and the texts to write to it.
#[derive(Debug, Clone, Copy)]
struct Switch {
    file: &'static str,
    frozen: &'static str,
    thawed: &'static str,
}

const V2: Switch = Switch { file: "cgroup.freeze", frozen: "1", thawed: "0" };
const V1: Switch = Switch { file: "freezer.state", frozen: "FROZEN", thawed: "THAWED" };

impl Freezer {
    /// Finds the freezer that matches the hierarchy that identifies containers.
    pub(crate) fn detect(hierarchy: &Hierarchy) -> Result<Self, Error> {
        let identity = hierarchy.mount_point.clone();
        if hierarchy.version == Version::V2 {
            return Ok(Self { mount_point: identity.clone(), identity, switch: V2 });
        }
        let mut mounts = mounts::own_mounts()?.into_iter();
        let freezer = mounts.find(|mount| mount.kind == "cgroup" && mount.has_option("freezer"));
        Ok(Self { identity, mount_point: freezer.ok_or(Error::FreezerNotMounted)?.point, switch: V1 })
    }

    /// Freezes the cgroup above `cgroup`, a directory in the hierarchy that identifies containers.
    pub(crate) fn freeze_above(&self, cgroup: &Path) -> Result<Frozen, Error> {
        let inside = cgroup.strip_prefix(&self.identity).ok().and_then(Path::parent);
        let inside = inside.ok_or_else(|| Error::NotACgroup(cgroup.into()))?;
        let path = self.mount_point.join(inside).join(self.switch.file);
        // Created before the write, so that a write that fails after taking effect is undone, too.
        let frozen = Frozen { path, switch: self.switch };
        match fs::write(&frozen.path, self.switch.frozen) {
            Ok(()) => Ok(frozen),
            Err(source) => Err(Error::CannotFreeze { path: frozen.path.clone(), source }),
        }
    }
}

/// A frozen cgroup. Dropping it thaws the cgroup.
#[derive(Debug)]
pub(crate) struct Frozen {
    path: PathBuf,
    switch: Switch,
}

impl Drop for Frozen {
    fn drop(&mut self) {
        if let Err(error) = fs::write(&self.path, self.switch.thawed) {
            let file = self.path.display();
            let text = self.switch.thawed;
            tracing::warn!(%file, %error, "cannot thaw a cgroup: write {text} to the file");
        }
    }
}
