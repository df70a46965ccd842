//! Shows a run the cgroup hierarchies of one version only, as on another kind of host.
//!
//! Container runtimes and the recorder look at the mounts below `/sys/fs/cgroup`, and a run has its own mounts.

use std::path::Path;

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tracer_ebpf::cgroup::Version;

use super::leftovers::mounts;

const CGROUPS: &str = "/sys/fs/cgroup";

/// Shows this run the cgroups of one version only, for everything it starts from now on. Returns false if the host has no
/// hierarchy of this version.
pub fn see_cgroups_of(version: Version) -> Result<bool> {
    match version {
        Version::V2 => {
            // Including everything mounted below it.
            unmount(Path::new(CGROUPS))?;
            mount(Some("cgroup2"), CGROUPS, Some("cgroup2"), MsFlags::empty(), None::<&str>)
                .with_context(|| format!("cannot mount a cgroup2 on {CGROUPS}"))?;
            Ok(true)
        }
        Version::V1 => {
            let (two, one): (Vec<_>, Vec<_>) = mounts()
                .into_iter()
                .filter(|mount| mount.file_system.starts_with("cgroup"))
                .partition(|mount| mount.file_system == "cgroup2");
            if one.is_empty() {
                return Ok(false);
            }
            two.iter().try_for_each(|mount| unmount(&mount.point))?;
            Ok(true)
        }
    }
}

fn unmount(point: &Path) -> Result<()> {
    umount2(point, MntFlags::MNT_DETACH).with_context(|| format!("cannot unmount {}", point.display()))
}
