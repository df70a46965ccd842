//! The kernel part in the kernel: loading, settings, targets, counters.

use std::path::Path;

use aya::maps::{Array, HashMap, Map, MapData, MapError, RingBuf};
use aya::{Btf, Ebpf, EbpfLoader};
use bundles::trace::BlindSpots;
use nix::sys::resource::{Resource, setrlimit};

use crate::cgroup::{Hierarchy, Version};
use crate::event::Inode;
use crate::pages::{Piece, PieceKey};
use crate::sets::{Set, Wanted};
use crate::{Error, Options, mounts};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/recorder.bpf.o"));

/// `enum numbers` of `bpf/event.h`.
const GENERATION: u32 = 0;
const WATCHING: u32 = 1;
const TARGETS_ADDED: u32 = 2;
const TARGETS_GIVEN_UP: u32 = 5;
/// `enum content_is` of `bpf/maps.h`.
const CONTENT_FOREIGN: u64 = 2;

/// `struct target` of `bpf/event.h`: two fields, and a number for each `enum counter`.
type TargetValue = [u64; 8];

/// What the kernel part could not report of one target, by the indexes of `enum counter`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) lost: u64,
    pub(crate) unresolved: u64,
    pub(crate) too_deep: u64,
    pub(crate) table_full: u64,
    pub(crate) unlinked: u64,
    pub(crate) elsewhere: u64,
}

/// The attached programs and their maps; detached and gone when this is dropped.
pub(crate) struct Kernel {
    ebpf: Ebpf,
    set: Set,
    targets: HashMap<MapData, u64, TargetValue>,
    numbers: Array<MapData, u64>,
    contents: HashMap<MapData, [u64; 3], u64>,
    pieces: HashMap<MapData, PieceKey, Piece>,
}

impl Kernel {
    /// Loads and attaches the best programs that the kernel accepts. Nothing is told until there is a target.
    pub(crate) fn load(options: &Options, hierarchy: &Hierarchy) -> Result<(Self, RingBuf<MapData>), Error> {
        // Needed before Linux 5.11 only; where it is not allowed and needed, the map creation below says so.
        if let Err(error) = setrlimit(Resource::RLIMIT_MEMLOCK, u64::MAX, u64::MAX) {
            tracing::debug!(%error, "RLIMIT_MEMLOCK stays as it is");
        }
        let btf = Btf::from_sys_fs().map_err(Error::NoBtf)?;
        // A recorder in a root that is no mount point (chroot) is told apart from containers by cgroup alone.
        let host_device = mounts::covering(&mounts::own()?, Path::new("/")).map_or(0, |root| root.device);
        let mut ebpf = EbpfLoader::new()
            .btf(Some(&btf))
            .map_max_entries("events", options.ring_bytes)
            .map_max_entries("pieces", options.pieces)
            .override_global("host_device", &host_device, true)
            .override_global("by_pids_controller", &u32::from(hierarchy.version == Version::One), true)
            .override_global("page_shift", &page_shift(), true)
            .override_global("tell_absent", &u32::from(options.absent), true)
            .override_global("tell_listed", &u32::from(options.directories), true)
            .load(OBJECT)
            .map_err(|e| Error::from_kernel("load the recorder's maps", &e))?;
        let wanted = Wanted {
            lookups: options.absent || options.directories,
            cgroups: options.watch,
            plainest: options.plainest,
        };
        let set = Set::load(&mut ebpf, &btf, wanted)?;
        let events = typed(ebpf.take_map("events"), "map events")?;
        let targets = typed(ebpf.take_map("targets"), "map targets")?;
        let numbers = typed(ebpf.take_map("numbers"), "map numbers")?;
        let contents = typed(ebpf.take_map("contents"), "map contents")?;
        let pieces = typed(ebpf.take_map("pieces"), "map pieces")?;
        Ok((Self { ebpf, set, targets, numbers, contents, pieces }, events))
    }

    /// The programs in use.
    pub(crate) fn hooks(&self) -> String {
        self.set.names()
    }

    /// What they do not see.
    pub(crate) fn blind_spots(&self) -> BlindSpots {
        self.set.blind_spots
    }

    /// Follows a cgroup whose container is still to begin.
    pub(crate) fn follow_new(&mut self, target: u64) -> Result<(), Error> {
        self.insert(target, TargetValue::default())?;
        self.add(TARGETS_ADDED)
    }

    /// Follows a cgroup in which a container with its root on `root_device` runs since before `now_ns`.
    pub(crate) fn follow_running(&mut self, target: u64, now_ns: u64, root_device: u32) -> Result<(), Error> {
        self.insert(target, [now_ns, u64::from(root_device), 0, 0, 0, 0, 0, 0])
    }

    fn insert(&mut self, target: u64, value: TargetValue) -> Result<(), Error> {
        self.targets.insert(target, value, 0).map_err(|e| Error::from_kernel("set the map targets", &e))?;
        self.add(GENERATION)
    }

    /// Makes each new cgroup a target that may be a container's.
    pub(crate) fn watch(&mut self) -> Result<(), Error> {
        self.add(WATCHING)
    }

    /// When the container of a target began, and the device of its root, if it has.
    pub(crate) fn began(&self, target: u64) -> Option<(u64, u32)> {
        let [began_ns, device, ..] = self.targets.get(&target, 0).ok()?;
        (began_ns != 0 && device != 0).then_some((began_ns, device as u32))
    }

    /// Ends the telling about a target. What was counted of it until then.
    pub(crate) fn leave(&mut self, target: u64) -> Result<Counters, Error> {
        let value = match self.targets.get(&target, 0) {
            Ok(value) => value,
            Err(MapError::KeyNotFound) => return Ok(Counters::default()),
            Err(error) => return Err(Error::from_kernel("read the map targets", &error)),
        };
        self.targets.remove(&target).map_err(|e| Error::from_kernel("change the map targets", &e))?;
        let [began_ns, _, lost, unresolved, too_deep, table_full, unlinked, elsewhere] = value;
        if began_ns == 0 {
            self.add(TARGETS_GIVEN_UP)?;
        }
        // Nobody is a member of it any more.
        self.add(GENERATION)?;
        Ok(Counters { lost, unresolved, too_deep, table_full, unlinked, elsewhere })
    }

    /// Pages of this content need not be marked any more.
    pub(crate) fn ignore(&mut self, target: u64, inode: Inode) {
        let key = [target, inode.number, u64::from(inode.device)];
        if let Err(error) = self.contents.insert(key, CONTENT_FOREIGN, 0) {
            tracing::debug!(%error, "a content is marked in vain");
        }
    }

    /// Takes the marked pages of a target out of the table, in no order.
    pub(crate) fn take_pieces(&mut self, target: u64) -> Result<Vec<(PieceKey, Piece)>, Error> {
        let failed = |error: MapError| Error::from_kernel("read the map pieces", &error);
        let mut taken = Vec::new();
        for entry in self.pieces.iter() {
            let (key, piece) = entry.map_err(failed)?;
            if key[0] == target {
                taken.push((key, piece));
            }
        }
        for (key, _) in &taken {
            match self.pieces.remove(key) {
                Ok(()) | Err(MapError::KeyNotFound) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(taken)
    }

    #[cfg(test)]
    pub(crate) fn follows(&self, target: u64) -> bool {
        self.targets.get(&target, 0).is_ok()
    }

    /// Runs of programs that the kernel left out.
    pub(crate) fn missed(&self) -> u64 {
        self.set.missed(&self.ebpf)
    }

    fn add(&mut self, number: u32) -> Result<(), Error> {
        let failed = |error: MapError| Error::from_kernel("change the map numbers", &error);
        let value = self.numbers.get(&number, 0).map_err(failed)?;
        self.numbers.set(number, value + 1, 0).map_err(failed)
    }
}

/// log2 of the page size.
pub(crate) fn page_shift() -> u32 {
    let size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
    size.and_then(|size| u32::try_from(size).ok()).map_or(12, u32::trailing_zeros)
}

fn typed<T: TryFrom<Map, Error = MapError>>(map: Option<Map>, name: &'static str) -> Result<T, Error> {
    T::try_from(map.ok_or(Error::Missing(name))?).map_err(|e| Error::from_kernel(format!("use the {name}"), &e))
}
