//! Which programs of the kernel part are used. Kernels differ in what they have and accept; for each purpose the best
//! that this one takes is chosen, by trying.
//!
//! | Purpose | Set, best first | Kernels | What it does not see |
//! |--|--|--|--|
//! | execs | `tp_btf/sched_process_exec` | all | - |
//! | opens | `fexit/vfs_open` | where trampolines are allowed | flags that the kernel drops at the open (`O_CREAT`, `O_TRUNC`, `O_CLOEXEC`) |
//! | | `tp_btf/sys_exit`, `tp_btf/io_uring_complete` | all; io_uring from 5.19 on | before 5.17, ELF interpreters |
//! | pages | `tp_btf/mm_filemap_{get_pages,map_pages,fault}` | 6.12 | - |
//! | | `fentry/filemap_{read,splice_read,map_pages,fault}` | where trampolines are allowed | - |
//! | | `tp_btf/mm_filemap_add_to_page_cache` | all | reads of cached pages; read-ahead apart from demand |
//!
//! Files handed in, mapped or opened in ways that no set for opens sees are told by the pages that are used of them.

use std::fs;
use std::os::fd::{AsFd, AsRawFd};

use aya::programs::{BtfTracePoint, FEntry, FExit, Program, ProgramError};
use aya::{Btf, Ebpf};
use bundles::trace::BlindSpots;

use crate::Error;

/// A program by its name in the kernel part, and what it is attached to.
type Hook = (&'static str, On);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum On {
    Tracepoint(&'static str),
    Entry(&'static str),
    Exit(&'static str),
}

const EXEC: Hook = ("on_exec", On::Tracepoint("sched_process_exec"));
const OPENS: Hook = ("on_vfs_open", On::Exit("vfs_open"));
const CALLS: Hook = ("on_sys_exit", On::Tracepoint("sys_exit"));
/// The older one first: where it is not right it is refused, while the newer one would be accepted, and wrong.
const REQUESTS: [Hook; 2] = [
    ("on_io_uring_complete_before", On::Tracepoint("io_uring_complete")),
    ("on_io_uring_complete", On::Tracepoint("io_uring_complete")),
];
const PAGES: [Hook; 3] = [
    ("on_get_pages", On::Tracepoint("mm_filemap_get_pages")),
    ("on_map_pages", On::Tracepoint("mm_filemap_map_pages")),
    ("on_fault", On::Tracepoint("mm_filemap_fault")),
];
const READS: [Hook; 2] =
    [("fentry_read", On::Entry("filemap_read")), ("fentry_buffered_read", On::Entry("generic_file_buffered_read"))];
const SPLICES: Hook = ("fentry_splice_read", On::Entry("filemap_splice_read"));
const FAULTS: [Hook; 2] =
    [("fentry_map_pages", On::Entry("filemap_map_pages")), ("fentry_fault", On::Entry("filemap_fault"))];
const MISSES: Hook = ("on_add_to_page_cache", On::Tracepoint("mm_filemap_add_to_page_cache"));
const LOOKUPS: Hook = ("on_lookup", On::Tracepoint("sys_exit"));
const CGROUPS: Hook = ("on_cgroup_mkdir", On::Tracepoint("cgroup_mkdir"));

/// What is to be told besides opens, execs and pages.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wanted {
    pub(crate) lookups: bool,
    pub(crate) cgroups: bool,
    /// Only what every kernel has, for tests of that.
    pub(crate) plainest: bool,
}

/// The programs that were accepted, and are attached.
#[derive(Debug, Default)]
pub(crate) struct Set {
    hooks: Vec<Hook>,
    pub(crate) blind_spots: BlindSpots,
}

impl Set {
    /// Loads and attaches the best programs that this kernel accepts; the execs come first, for nothing counts before them.
    pub(crate) fn load(ebpf: &mut Ebpf, btf: &Btf, wanted: Wanted) -> Result<Self, Error> {
        let mut set = Self::default();
        set.require(ebpf, btf, EXEC)?;
        set.load_opens(ebpf, btf, wanted)?;
        set.load_pages(ebpf, btf, wanted)?;
        for (hook, wanted) in [(LOOKUPS, wanted.lookups), (CGROUPS, wanted.cgroups)] {
            if wanted {
                set.require(ebpf, btf, hook)?;
            }
        }
        Ok(set)
    }

    fn load_opens(&mut self, ebpf: &mut Ebpf, btf: &Btf, wanted: Wanted) -> Result<(), Error> {
        if !wanted.plainest && self.try_all(ebpf, btf, &[OPENS]) {
            return Ok(());
        }
        self.require(ebpf, btf, CALLS)?;
        if !REQUESTS.iter().any(|hook| self.try_all(ebpf, btf, &[*hook])) {
            // Files that are read tell of themselves by their pages.
            self.blind_spots = self.blind_spots.and(BlindSpots::IO_URING);
        }
        Ok(())
    }

    fn load_pages(&mut self, ebpf: &mut Ebpf, btf: &Btf, wanted: Wanted) -> Result<(), Error> {
        if !wanted.plainest {
            if self.try_all(ebpf, btf, &PAGES) {
                return Ok(());
            }
            let [map, fault] = FAULTS;
            if READS.iter().any(|read| self.try_all(ebpf, btf, &[*read, map, fault])) {
                self.try_all(ebpf, btf, &[SPLICES]);
                return Ok(());
            }
        }
        self.require(ebpf, btf, MISSES)?;
        self.blind_spots = self.blind_spots.and(BlindSpots::WARM_READS).and(BlindSpots::AHEAD);
        Ok(())
    }

    fn require(&mut self, ebpf: &mut Ebpf, btf: &Btf, hook: Hook) -> Result<(), Error> {
        load(ebpf, btf, hook).map_err(|e| Error::from_kernel(format!("load {}", name(hook)), &e))?;
        attach(ebpf, hook).map_err(|e| Error::from_kernel(format!("attach {}", name(hook)), &e))?;
        self.hooks.push(hook);
        Ok(())
    }

    /// All or none of `hooks`. Some kernels accept what they cannot attach, as that of arm64 did with trampolines (6.1: `ENOTSUPP`).
    fn try_all(&mut self, ebpf: &mut Ebpf, btf: &Btf, hooks: &[Hook]) -> bool {
        let taken = hooks.iter().try_for_each(|hook| {
            load(ebpf, btf, *hook).and_then(|()| attach(ebpf, *hook)).map_err(|error| (name(*hook), error))
        });
        let Err((hook, error)) = taken else {
            self.hooks.extend(hooks);
            return true;
        };
        tracing::debug!(hook, %error, "not on this kernel");
        for hook in hooks {
            if let Err(error) = unload(ebpf, *hook) {
                tracing::trace!(hook = name(*hook), %error, "not unloaded");
            }
        }
        false
    }

    /// The programs in use, for the trace's `recorder`.
    pub(crate) fn names(&self) -> String {
        self.hooks.iter().map(|hook| name(*hook)).collect::<Vec<_>>().join(" ")
    }

    /// How often a program was not run because it had been interrupted on its processor: what it would have told is lost.
    pub(crate) fn missed(&self, ebpf: &Ebpf) -> u64 {
        let missed = |hook: &Hook| {
            let descriptor = ebpf.program(hook.0)?.fd().ok()?.as_fd().as_raw_fd();
            let facts = fs::read_to_string(format!("/proc/self/fdinfo/{descriptor}")).ok()?;
            let line = facts.lines().find_map(|line| line.strip_prefix("recursion_misses:"))?;
            line.trim().parse::<u64>().ok()
        };
        self.hooks.iter().filter_map(missed).sum()
    }
}

fn name((_, on): Hook) -> String {
    match on {
        On::Tracepoint(name) => format!("tp_btf/{name}"),
        On::Entry(name) => format!("fentry/{name}"),
        On::Exit(name) => format!("fexit/{name}"),
    }
}

fn program<'a, P>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut P, ProgramError>
where
    &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
{
    ebpf.program_mut(name).ok_or(ProgramError::NotLoaded)?.try_into()
}

fn load(ebpf: &mut Ebpf, btf: &Btf, (program_name, on): Hook) -> Result<(), ProgramError> {
    match on {
        On::Tracepoint(name) => program::<BtfTracePoint>(ebpf, program_name)?.load(name, btf),
        On::Entry(name) => program::<FEntry>(ebpf, program_name)?.load(name, btf),
        On::Exit(name) => program::<FExit>(ebpf, program_name)?.load(name, btf),
    }
}

fn attach(ebpf: &mut Ebpf, (program_name, on): Hook) -> Result<(), ProgramError> {
    match on {
        On::Tracepoint(_) => program::<BtfTracePoint>(ebpf, program_name)?.attach().map(drop),
        On::Entry(_) => program::<FEntry>(ebpf, program_name)?.attach().map(drop),
        On::Exit(_) => program::<FExit>(ebpf, program_name)?.attach().map(drop),
    }
}

/// Detaches it, too. One that was not loaded, as another of its set was refused, stays as it is.
fn unload(ebpf: &mut Ebpf, (program_name, on): Hook) -> Result<(), ProgramError> {
    match on {
        On::Tracepoint(_) => program::<BtfTracePoint>(ebpf, program_name)?.unload(),
        On::Entry(_) => program::<FEntry>(ebpf, program_name)?.unload(),
        On::Exit(_) => program::<FExit>(ebpf, program_name)?.unload(),
    }
}
