//! Chooses the programs of the kernel part. Kernels differ in what they have and accept, so for each purpose the sets of
//! programs are tried, best first, until the kernel accepts one.
//!
//! | Purpose | Set, best first | Kernels | Not seen |
//! |--|--|--|--|
//! | execs | `tp_btf/sched_process_exec` | all | - |
//! | opens | `fexit/vfs_open` | with trampolines | flags that the kernel drops at the open (`O_CREAT`, `O_TRUNC`, `O_CLOEXEC`) |
//! | | `tp_btf/sys_exit`, `tp_btf/io_uring_complete` | all; io_uring from 5.19 | before 5.17, ELF interpreters |
//! | pages | `tp_btf/mm_filemap_{get_pages,map_pages,fault}` | 6.12 | - |
//! | | `fentry/filemap_{read,splice_read,map_pages,fault}` | with trampolines | - |
//! | | `tp_btf/mm_filemap_add_to_page_cache` | all | reads of cached pages; read-ahead counts as read |
//!
//! A file that is opened in a way no set sees (passed in by another process, for example) is reported by its used pages.

use std::fs;
use std::os::fd::{AsFd, AsRawFd};

use aya::programs::{BtfTracePoint, FEntry, FExit, Program, ProgramError};
use aya::{Btf, Ebpf};
use bundles::trace::BlindSpots;

use crate::Error;

/// The name of a program in the kernel part, and what to attach it to.
type Hook = (&'static str, AttachPoint);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AttachPoint {
    Tracepoint(&'static str),
    FunctionEntry(&'static str),
    FunctionExit(&'static str),
}

const EXEC: Hook = ("on_exec", AttachPoint::Tracepoint("sched_process_exec"));
const VFS_OPEN: Hook = ("on_vfs_open", AttachPoint::FunctionExit("vfs_open"));
const SYS_EXIT: Hook = ("on_sys_exit", AttachPoint::Tracepoint("sys_exit"));
/// The older signature first: newer kernels reject it, while older kernels would accept the newer one and misread it.
const IO_URING: [Hook; 2] = [
    ("on_io_uring_complete_before", AttachPoint::Tracepoint("io_uring_complete")),
    ("on_io_uring_complete", AttachPoint::Tracepoint("io_uring_complete")),
];
const PAGE_TRACEPOINTS: [Hook; 3] = [
    ("on_get_pages", AttachPoint::Tracepoint("mm_filemap_get_pages")),
    ("on_map_pages", AttachPoint::Tracepoint("mm_filemap_map_pages")),
    ("on_fault", AttachPoint::Tracepoint("mm_filemap_fault")),
];
const READ_FUNCTIONS: [Hook; 2] = [
    ("fentry_read", AttachPoint::FunctionEntry("filemap_read")),
    ("fentry_buffered_read", AttachPoint::FunctionEntry("generic_file_buffered_read")),
];
const SPLICE_FUNCTION: Hook = ("fentry_splice_read", AttachPoint::FunctionEntry("filemap_splice_read"));
const FAULT_FUNCTIONS: [Hook; 2] = [
    ("fentry_map_pages", AttachPoint::FunctionEntry("filemap_map_pages")),
    ("fentry_fault", AttachPoint::FunctionEntry("filemap_fault")),
];
const PAGE_CACHE_MISS: Hook = ("on_add_to_page_cache", AttachPoint::Tracepoint("mm_filemap_add_to_page_cache"));
const LOOKUPS: Hook = ("on_lookup", AttachPoint::Tracepoint("sys_exit"));
const NEW_CGROUP: Hook = ("on_cgroup_mkdir", AttachPoint::Tracepoint("cgroup_mkdir"));

/// Optional reports.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct HookOptions {
    /// Absent paths and listed directories.
    pub(crate) lookups: bool,
    pub(crate) new_cgroups: bool,
    /// Use only the sets that every kernel has, so that tests cover them.
    pub(crate) baseline_only: bool,
}

/// The attached programs.
#[derive(Debug, Default)]
pub(crate) struct Hooks {
    attached: Vec<Hook>,
    /// What these programs cannot see.
    pub(crate) blind_spots: BlindSpots,
}

impl Hooks {
    /// Loads and attaches the best programs that this kernel accepts. The exec hook is first: events before a container's first
    /// exec are attributed only once it has been seen.
    pub(crate) fn load(ebpf: &mut Ebpf, btf: &Btf, options: HookOptions) -> Result<Self, Error> {
        let mut hooks = Self::default();
        hooks.require(ebpf, btf, EXEC)?;
        hooks.load_opens(ebpf, btf, options)?;
        hooks.load_pages(ebpf, btf, options)?;
        if options.lookups {
            hooks.require(ebpf, btf, LOOKUPS)?;
        }
        if options.new_cgroups {
            hooks.require(ebpf, btf, NEW_CGROUP)?;
        }
        Ok(hooks)
    }

    fn load_opens(&mut self, ebpf: &mut Ebpf, btf: &Btf, options: HookOptions) -> Result<(), Error> {
        if !options.baseline_only && self.try_all(ebpf, btf, &[VFS_OPEN]) {
            return Ok(());
        }
        self.require(ebpf, btf, SYS_EXIT)?;
        if !IO_URING.iter().any(|hook| self.try_all(ebpf, btf, &[*hook])) {
            // A file opened through io_uring is still reported if its pages are used.
            self.blind_spots = self.blind_spots.and(BlindSpots::IO_URING);
        }
        Ok(())
    }

    fn load_pages(&mut self, ebpf: &mut Ebpf, btf: &Btf, options: HookOptions) -> Result<(), Error> {
        if !options.baseline_only {
            if self.try_all(ebpf, btf, &PAGE_TRACEPOINTS) {
                return Ok(());
            }
            let [map, fault] = FAULT_FUNCTIONS;
            if READ_FUNCTIONS.iter().any(|read| self.try_all(ebpf, btf, &[*read, map, fault])) {
                self.try_all(ebpf, btf, &[SPLICE_FUNCTION]);
                return Ok(());
            }
        }
        self.require(ebpf, btf, PAGE_CACHE_MISS)?;
        self.blind_spots = self.blind_spots.and(BlindSpots::WARM_READS).and(BlindSpots::AHEAD);
        Ok(())
    }

    fn require(&mut self, ebpf: &mut Ebpf, btf: &Btf, hook: Hook) -> Result<(), Error> {
        load(ebpf, btf, hook).map_err(|e| Error::from_kernel(format!("load {}", name(hook)), &e))?;
        attach(ebpf, hook).map_err(|e| Error::from_kernel(format!("attach {}", name(hook)), &e))?;
        self.attached.push(hook);
        Ok(())
    }

    /// Attaches all of `hooks` or none. Loading is not enough: arm64's 6.1 loads trampoline programs but cannot attach them
    /// (`ENOTSUPP`).
    fn try_all(&mut self, ebpf: &mut Ebpf, btf: &Btf, hooks: &[Hook]) -> bool {
        let attached = hooks.iter().try_for_each(|hook| {
            load(ebpf, btf, *hook).and_then(|()| attach(ebpf, *hook)).map_err(|error| (name(*hook), error))
        });
        let Err((hook, error)) = attached else {
            self.attached.extend(hooks);
            return true;
        };
        tracing::debug!(hook, %error, "the kernel does not accept a program");
        for hook in hooks {
            if let Err(error) = unload(ebpf, *hook) {
                tracing::trace!(hook = name(*hook), %error, "a program could not be unloaded");
            }
        }
        false
    }

    /// The attach points in use, for the trace's `recorder`.
    pub(crate) fn names(&self) -> String {
        self.attached.iter().map(|hook| name(*hook)).collect::<Vec<_>>().join(" ")
    }

    /// How often the kernel skipped a program because it was already running on that CPU. Those events are lost.
    /// `None` if the kernel does not count them.
    pub(crate) fn recursion_misses(&self, ebpf: &Ebpf) -> Option<u64> {
        let misses = |hook: &Hook| {
            let descriptor = ebpf.program(hook.0)?.fd().ok()?.as_fd().as_raw_fd();
            let info = fs::read_to_string(format!("/proc/self/fdinfo/{descriptor}")).ok()?;
            let line = info.lines().find_map(|line| line.strip_prefix("recursion_misses:"))?;
            line.trim().parse::<u64>().ok()
        };
        self.attached.iter().map(misses).sum()
    }
}

fn name((_, attach_point): Hook) -> String {
    match attach_point {
        AttachPoint::Tracepoint(name) => format!("tp_btf/{name}"),
        AttachPoint::FunctionEntry(name) => format!("fentry/{name}"),
        AttachPoint::FunctionExit(name) => format!("fexit/{name}"),
    }
}

fn program<'a, P>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut P, ProgramError>
where
    &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
{
    ebpf.program_mut(name).ok_or(ProgramError::NotLoaded)?.try_into()
}

fn load(ebpf: &mut Ebpf, btf: &Btf, (program_name, attach_point): Hook) -> Result<(), ProgramError> {
    match attach_point {
        AttachPoint::Tracepoint(name) => program::<BtfTracePoint>(ebpf, program_name)?.load(name, btf),
        AttachPoint::FunctionEntry(name) => program::<FEntry>(ebpf, program_name)?.load(name, btf),
        AttachPoint::FunctionExit(name) => program::<FExit>(ebpf, program_name)?.load(name, btf),
    }
}

fn attach(ebpf: &mut Ebpf, (program_name, attach_point): Hook) -> Result<(), ProgramError> {
    match attach_point {
        AttachPoint::Tracepoint(_) => program::<BtfTracePoint>(ebpf, program_name)?.attach().map(drop),
        AttachPoint::FunctionEntry(_) => program::<FEntry>(ebpf, program_name)?.attach().map(drop),
        AttachPoint::FunctionExit(_) => program::<FExit>(ebpf, program_name)?.attach().map(drop),
    }
}

/// Also detaches it. Fails for a program that was not loaded, which callers ignore.
fn unload(ebpf: &mut Ebpf, (program_name, attach_point): Hook) -> Result<(), ProgramError> {
    match attach_point {
        AttachPoint::Tracepoint(_) => program::<BtfTracePoint>(ebpf, program_name)?.unload(),
        AttachPoint::FunctionEntry(_) => program::<FEntry>(ebpf, program_name)?.unload(),
        AttachPoint::FunctionExit(_) => program::<FExit>(ebpf, program_name)?.unload(),
    }
}
