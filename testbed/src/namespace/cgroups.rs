//! Which hierarchies of cgroups a run sees: the host's, or those of one version alone, as on other hosts.
//!
//! Container runtimes and the recorder go by what is mounted at `/sys/fs/cgroup`, and mounts are the run's own.

use std::path::Path;

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tracer_ebpf::cgroup::Version;

use super::leftovers::mounts;

const CGROUPS: &str = "/sys/fs/cgroup";

/// Shows a run the cgroups of one version alone, for all that it starts from now on. False if this host has none of it.
pub fn see_cgroups_of(version: Version) -> Result<bool> {
    match version {
        Version::Two => {
            // With all that is mounted below it.
            unmount(Path::new(CGROUPS))?;
            mount(Some("cgroup2"), CGROUPS, Some("cgroup2"), MsFlags::empty(), None::<&str>)
                .with_context(|| format!("cannot mount a cgroup2 on {CGROUPS}"))?;
            Ok(true)
        }
        Version::One => {
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
