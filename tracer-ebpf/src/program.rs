//! The BPF object in the kernel: loading, settings, attaching, counters.

use std::fs::File;
use std::path::Path;

use aya::maps::{Array, CgroupArray, Map, MapData, MapError, PerCpuArray, RingBuf};
use aya::programs::{BtfTracePoint, ProgramError};
use aya::{Btf, Ebpf, EbpfLoader};
use nix::sys::resource::{Resource, setrlimit};

use crate::{Error, host};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/recorder.bpf.o"));

/// Program and the BTF tracepoint it is attached to. The exec comes first: nothing counts before it.
const PROGRAMS: [(&str, &str); 2] = [("on_exec", "sched_process_exec"), ("on_sys_exit", "sys_exit")];

/// What the kernel part could not report, by the indexes of `enum counter` in `bpf/event.h`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) lost: u64,
    pub(crate) unresolved: u64,
    pub(crate) unlinked: u64,
}

/// Programs that the verifier has accepted, not attached yet.
pub(crate) struct Loaded {
    ebpf: Ebpf,
    pub(crate) events: RingBuf<MapData>,
    pub(crate) maps: Maps,
}

/// The maps that outlive the programs.
pub(crate) struct Maps {
    counters: PerCpuArray<MapData, u64>,
    state: Array<MapData, [u64; 3]>,
}

/// Attached programs; they are detached when this is dropped.
pub(crate) struct Attached {
    _ebpf: Ebpf,
}

/// The tracepoints in use, for the trace's `recorder`.
pub(crate) fn hooks() -> String {
    PROGRAMS.map(|(_, tracepoint)| format!("tp_btf/{tracepoint}")).join(" ")
}

pub(crate) fn load(ring_bytes: u32) -> Result<Loaded, Error> {
    // Needed before Linux 5.11 only; where it is not allowed and needed, the map creation below says so.
    if let Err(error) = setrlimit(Resource::RLIMIT_MEMLOCK, u64::MAX, u64::MAX) {
        tracing::debug!(%error, "RLIMIT_MEMLOCK stays as it is");
    }
    let btf = Btf::from_sys_fs().map_err(Error::NoBtf)?;
    let mut ebpf = EbpfLoader::new()
        .btf(Some(&btf))
        .map_max_entries("events", ring_bytes)
        .load(OBJECT)
        .map_err(|e| Error::from_kernel("load the recorder's maps", &e))?;
    for (name, tracepoint) in PROGRAMS {
        program(&mut ebpf, name)?
            .load(tracepoint, &btf)
            .map_err(|e| Error::from_kernel(format!("load {name} for tp_btf/{tracepoint}"), &e))?;
    }
    let mounts = host::mounts()?;
    // A recorder in a root that is no mount point (chroot) is told apart from the container by cgroup alone.
    let host_dev = host::root_device(&mounts).unwrap_or(0);
    let mut config: Array<_, [u32; 2]> = typed(ebpf.take_map("config"), "map config")?;
    config.set(0, [host_dev, 0], 0).map_err(|e| Error::from_kernel("set the map config", &e))?;
    let events = typed(ebpf.take_map("events"), "map events")?;
    let counters = typed(ebpf.take_map("counters"), "map counters")?;
    let state = typed(ebpf.take_map("state"), "map state")?;
    Ok(Loaded { ebpf, events, maps: Maps { counters, state } })
}

impl Loaded {
    /// Attaches the programs to the tasks below the cgroup directory `path`.
    pub(crate) fn attach(mut self, path: &Path) -> Result<(Attached, RingBuf<MapData>, Maps), Error> {
        let directory =
            File::open(path).map_err(|source| Error::File { what: "open the cgroup", path: path.into(), source })?;
        let mut target: CgroupArray<_> = typed(self.ebpf.take_map("target"), "map target")?;
        target
            .set(0, directory, 0)
            .map_err(|e| Error::from_kernel(format!("follow {} (a cgroup v2 directory)", path.display()), &e))?;
        for (name, tracepoint) in PROGRAMS {
            program(&mut self.ebpf, name)?
                .attach()
                .map_err(|e| Error::from_kernel(format!("attach {name} to tp_btf/{tracepoint}"), &e))?;
        }
        Ok((Attached { _ebpf: self.ebpf }, self.events, self.maps))
    }
}

impl Maps {
    /// When the first exec was seen, on the monotonic clock.
    pub(crate) fn began_ns(&self) -> Result<Option<u64>, Error> {
        let state = self.state.get(&0, 0).map_err(|e| Error::from_kernel("read the map state", &e))?;
        let [began_ns, _, root] = state;
        Ok((root != 0).then_some(began_ns))
    }

    pub(crate) fn counters(&self) -> Result<Counters, Error> {
        let sum = |index: u32| -> Result<u64, Error> {
            let per_cpu = self.counters.get(&index, 0).map_err(|e| Error::from_kernel("read the map counters", &e))?;
            Ok(per_cpu.iter().sum())
        };
        Ok(Counters { lost: sum(0)?, unresolved: sum(1)?, unlinked: sum(2)? })
    }
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut BtfTracePoint, Error> {
    let program = ebpf.program_mut(name).ok_or(Error::Missing(name))?;
    program.try_into().map_err(|_: ProgramError| Error::Missing(name))
}

fn typed<T: TryFrom<Map, Error = MapError>>(map: Option<Map>, name: &'static str) -> Result<T, Error> {
    T::try_from(map.ok_or(Error::Missing(name))?).map_err(|e| Error::from_kernel(format!("use the {name}"), &e))
}
