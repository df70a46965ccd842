//! Loads the kernel part and accesses its maps: targets, counters, page bitmaps.

use std::path::Path;

use aya::maps::{Array, HashMap, Map, MapData, MapError, RingBuf};
use aya::{Btf, Ebpf, EbpfLoader};
use bundles::trace::BlindSpots;
use nix::sys::resource::{Resource, setrlimit};

use crate::cgroup::{Hierarchy, Version};
use crate::event::Inode;
use crate::hooks::{HookOptions, Hooks};
use crate::pages::{BitmapKey, PageBitmap};
use crate::{Error, Options, mounts};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/recorder.bpf.o"));

/// Indexes of the map `state`, `enum state_index` in `bpf/event.h`.
const GENERATION: u32 = 0;
const WATCHING: u32 = 1;
const TARGETS_ADDED: u32 = 2;
const TARGETS_DROPPED: u32 = 5;
/// A value of the map `contents`, `enum content_state` in `bpf/maps.h`.
const CONTENT_FOREIGN: u64 = 2;

/// `struct target` in `bpf/event.h`: two fields, and one value for each `enum counter`.
type TargetValue = [u64; 8];

/// What the kernel part lost or excluded of one target, as `enum counter` in `bpf/event.h` lists.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) lost: u64,
    pub(crate) unresolved: u64,
    pub(crate) too_deep: u64,
    pub(crate) table_full: u64,
    pub(crate) unlinked: u64,
    pub(crate) other_file_systems: u64,
}

/// The attached programs and their maps. Dropping it detaches and unloads them.
pub(crate) struct Kernel {
    ebpf: Ebpf,
    hooks: Hooks,
    targets: HashMap<MapData, u64, TargetValue>,
    state: Array<MapData, u64>,
    contents: HashMap<MapData, [u64; 3], u64>,
    page_bitmaps: HashMap<MapData, BitmapKey, PageBitmap>,
}

impl Kernel {
    /// Loads and attaches the best programs that the kernel accepts. They report nothing until a target is added.
    pub(crate) fn load(options: &Options, hierarchy: &Hierarchy) -> Result<(Self, RingBuf<MapData>), Error> {
        // Needed only before Linux 5.11. If it is needed but not permitted, creating the maps below fails.
        if let Err(error) = setrlimit(Resource::RLIMIT_MEMLOCK, u64::MAX, u64::MAX) {
            tracing::debug!(%error, "RLIMIT_MEMLOCK not raised");
        }
        let btf = Btf::from_sys_fs().map_err(Error::NoBtf)?;
        // In a root that is not a mount point (chroot) only the cgroup distinguishes the recorder from containers.
        let host_device = mounts::covering(&mounts::own_mounts()?, Path::new("/")).map_or(0, |root| root.device);
        let mut ebpf = EbpfLoader::new()
            .btf(Some(&btf))
            .map_max_entries("events", options.ring_bytes)
            .map_max_entries("page_bitmaps", options.page_bitmaps)
            .override_global("host_device", &host_device, true)
            .override_global("by_pids_controller", &u32::from(hierarchy.version == Version::V1), true)
            .override_global("page_shift", &page_shift(), true)
            .override_global("enable_absent", &u32::from(options.absent_paths), true)
            .override_global("enable_listed", &u32::from(options.listed_directories), true)
            .load(OBJECT)
            .map_err(|e| Error::from_kernel("load the recorder's maps", &e))?;
        let hook_options = HookOptions {
            lookups: options.absent_paths || options.listed_directories,
            new_cgroups: options.watch,
            baseline_only: options.baseline_only,
        };
        let hooks = Hooks::load(&mut ebpf, &btf, hook_options)?;
        let events = typed(ebpf.take_map("events"), "map events")?;
        let targets = typed(ebpf.take_map("targets"), "map targets")?;
        let state = typed(ebpf.take_map("state"), "map state")?;
        let contents = typed(ebpf.take_map("contents"), "map contents")?;
        let page_bitmaps = typed(ebpf.take_map("page_bitmaps"), "map page_bitmaps")?;
        Ok((Self { ebpf, hooks, targets, state, contents, page_bitmaps }, events))
    }

    /// The attach points in use, for the trace's `recorder`.
    pub(crate) fn hook_names(&self) -> String {
        self.hooks.names()
    }

    /// What the attached programs cannot see.
    pub(crate) fn blind_spots(&self) -> BlindSpots {
        match self.hooks.recursion_misses(&self.ebpf) {
            Some(_) => self.hooks.blind_spots,
            None => self.hooks.blind_spots.and(BlindSpots::LOSSES),
        }
    }

    /// Follows a cgroup whose container has not started yet.
    pub(crate) fn follow_new(&mut self, target: u64) -> Result<(), Error> {
        self.insert(target, TargetValue::default())?;
        self.increment(TARGETS_ADDED)
    }

    /// Follows the cgroup of a running container, whose root is on `root_device`.
    pub(crate) fn follow_running(&mut self, target: u64, now_ns: u64, root_device: u32) -> Result<(), Error> {
        self.insert(target, [now_ns, u64::from(root_device), 0, 0, 0, 0, 0, 0])
    }

    fn insert(&mut self, target: u64, value: TargetValue) -> Result<(), Error> {
        self.targets.insert(target, value, 0).map_err(|e| Error::from_kernel("set the map targets", &e))?;
        self.increment(GENERATION)
    }

    /// From now on each new cgroup that is named like a container becomes a target.
    pub(crate) fn watch(&mut self) -> Result<(), Error> {
        self.increment(WATCHING)
    }

    /// The time of the first exec of a target's container, and the device of its root; None before it.
    pub(crate) fn first_exec(&self, target: u64) -> Option<(u64, u32)> {
        let [first_exec_ns, device, ..] = self.targets.get(&target, 0).ok()?;
        (first_exec_ns != 0 && device != 0).then_some((first_exec_ns, device as u32))
    }

    /// Stops following a target. Returns its counters.
    pub(crate) fn unfollow(&mut self, target: u64) -> Result<Counters, Error> {
        let value = match self.targets.get(&target, 0) {
            Ok(value) => value,
            Err(MapError::KeyNotFound) => return Ok(Counters::default()),
            Err(error) => return Err(Error::from_kernel("read the map targets", &error)),
        };
        self.targets.remove(&target).map_err(|e| Error::from_kernel("change the map targets", &e))?;
        let [first_exec_ns, _, lost, unresolved, too_deep, table_full, unlinked, other_file_systems] = value;
        if first_exec_ns == 0 {
            self.increment(TARGETS_DROPPED)?;
        }
        // Invalidates the cached memberships of the target.
        self.increment(GENERATION)?;
        Ok(Counters { lost, unresolved, too_deep, table_full, unlinked, other_file_systems })
    }

    /// Stops marking the pages of a content.
    pub(crate) fn ignore_content(&mut self, target: u64, inode: Inode) {
        let key = [target, inode.number, u64::from(inode.device)];
        if let Err(error) = self.contents.insert(key, CONTENT_FOREIGN, 0) {
            tracing::debug!(%error, "cannot stop marking the pages of a content");
        }
    }

    /// Removes the page bitmaps of a target from the map, and returns them in no particular order.
    pub(crate) fn take_page_bitmaps(&mut self, target: u64) -> Result<Vec<(BitmapKey, PageBitmap)>, Error> {
        let failed = |error: MapError| Error::from_kernel("read the map page_bitmaps", &error);
        let mut taken = Vec::new();
        for entry in self.page_bitmaps.iter() {
            let (key, bitmap) = entry.map_err(failed)?;
            if key[0] == target {
                taken.push((key, bitmap));
            }
        }
        for (key, _) in &taken {
            match self.page_bitmaps.remove(key) {
                Ok(()) | Err(MapError::KeyNotFound) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(taken)
    }

    #[cfg(test)]
    pub(crate) fn is_followed(&self, target: u64) -> bool {
        self.targets.get(&target, 0).is_ok()
    }

    /// Events lost because the kernel skipped a program, of unknown containers.
    pub(crate) fn recursion_misses(&self) -> u64 {
        self.hooks.recursion_misses(&self.ebpf).unwrap_or(0)
    }

    fn increment(&mut self, index: u32) -> Result<(), Error> {
        let failed = |error: MapError| Error::from_kernel("change the map state", &error);
        let value = self.state.get(&index, 0).map_err(failed)?;
        self.state.set(index, value + 1, 0).map_err(failed)
    }
}

/// log2 of the page size.
pub(crate) fn page_shift() -> u32 {
    let size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
    size.and_then(|size| u32::try_from(size).ok()).map_or(12, u32::trailing_zeros)
}

fn typed<T: TryFrom<Map, Error = MapError>>(map: Option<Map>, name: &'static str) -> Result<T, Error> {
    T::try_from(map.ok_or(Error::ObjectMismatch(name))?).map_err(|e| Error::from_kernel(format!("use the {name}"), &e))
}
