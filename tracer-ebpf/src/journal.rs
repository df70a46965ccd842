//! What was seen of one container, written down while it runs.
//!
//! The kernel part tells a use once, but forgets what was not used for long, and two processors may tell the same; so
//! a use is looked up here before it is written. Only fingerprints of paths are kept, and not all: a trace may have a million.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::time::{Duration, Instant};

use bundles::path::RootPath;
use bundles::phase::Phase;
use bundles::trace::{
    Excluded, FileUse, Head, Lookup, MountedRepository, Process, Ranges, Tail, TraceWriter, Use, WriteError,
};

/// Where a trace is written to.
pub type Output = Box<dyn Write + Send>;

/// How long what was seen may wait before it is written. A crash loses no more.
const FLUSH: Duration = Duration::from_secs(1);
/// Fingerprints that are kept of those that came last: twice what the kernel part keeps.
const GENERATION: usize = 1 << 18;
/// Contents that ranges can be of: twice what the kernel's table of pages has room for. Where there are more, that table
/// was full, and the trace says so.
const MAX_CONTENTS: usize = 1 << 18;
/// Scripts waited for at a time. One is waited for only until its interpreter has opened it.
const MAX_SCRIPTS: usize = 4096;

/// A use of a file, by its path in the container.
#[derive(Debug, Clone)]
pub(crate) struct Used {
    pub(crate) path: RootPath,
    pub(crate) at_us: u64,
    pub(crate) size: u64,
    pub(crate) open_flags: u32,
    pub(crate) how: Use,
    pub(crate) written: bool,
    pub(crate) process: Process,
}

/// Of one path each of these is written down once.
#[derive(Debug, Clone, Copy, Hash, PartialEq, Eq)]
enum Fact {
    Used,
    Executed,
    Written,
    Absent,
    Listed,
}

pub(crate) struct Journal {
    writer: TraceWriter<Output>,
    known: Known,
    /// What ranges can be of.
    contents: HashSet<u64>,
    fingerprints: RandomState,
    /// By process on the host: when a script was executed, and its name.
    scripts: HashMap<u32, (u64, Vec<u8>)>,
    files: usize,
    max_files: usize,
    /// Files that were not taken because there were too many.
    pub(crate) too_many: u64,
    pub(crate) excluded: Excluded,
    flushed: Instant,
    pending: bool,
}

impl Journal {
    pub(crate) fn new(out: Output, head: &Head, max_files: usize) -> Result<Self, WriteError> {
        Ok(Self {
            writer: TraceWriter::new(out, head)?,
            known: Known::default(),
            contents: HashSet::new(),
            fingerprints: RandomState::new(),
            scripts: HashMap::new(),
            files: 0,
            max_files,
            too_many: 0,
            excluded: Excluded::default(),
            flushed: Instant::now(),
            pending: false,
        })
    }

    /// How many files were used.
    pub(crate) fn files(&self) -> usize {
        self.files
    }

    /// A script was executed; its interpreter will open it.
    pub(crate) fn script(&mut self, at_us: u64, host_process: u32, name: Vec<u8>) {
        if self.scripts.len() < MAX_SCRIPTS || self.scripts.contains_key(&host_process) {
            self.scripts.insert(host_process, (at_us, name));
        }
    }

    pub(crate) fn used(&mut self, mut used: Used, host_process: u32) -> Result<(), WriteError> {
        if used.how == Use::Open
            && let Some((at_us, _)) = self.scripts.get(&host_process).filter(|(_, name)| name == used.path.name())
        {
            used = Used { at_us: *at_us, open_flags: 0, how: Use::Exec, ..used };
            self.scripts.remove(&host_process);
        }
        let new = self.is_news(&used.path, Fact::Used);
        let executed = matches!(used.how, Use::Exec | Use::Interpreter) && self.is_news(&used.path, Fact::Executed);
        let written = used.written && self.is_news(&used.path, Fact::Written);
        if !new && !executed && !written {
            return Ok(());
        }
        if new && self.files >= self.max_files {
            self.too_many += 1;
            return Ok(());
        }
        self.files += usize::from(new);
        self.pending = true;
        self.writer.file(&FileUse {
            path: used.path,
            at_us: used.at_us,
            size: used.size,
            open_flags: used.open_flags,
            how: used.how,
            process: used.process,
            written: used.written,
            ranges: None,
        })
    }

    /// The file at `path` has the content that ranges will call `id`.
    pub(crate) fn content(&mut self, id: u64, path: &RootPath) -> Result<(), WriteError> {
        if self.contents.len() >= MAX_CONTENTS {
            return Ok(());
        }
        self.pending = true;
        self.contents.insert(id);
        self.writer.content(id, path)
    }

    /// Ranges of a content that was left out are left out.
    pub(crate) fn ranges(&mut self, id: u64, ranges: &Ranges) -> Result<(), WriteError> {
        if self.contents.contains(&id) { self.writer.ranges(id, ranges) } else { Ok(()) }
    }

    pub(crate) fn repository(&mut self, repository: &MountedRepository) -> Result<(), WriteError> {
        self.writer.repository(repository)
    }

    pub(crate) fn absent(&mut self, lookup: &Lookup) -> Result<(), WriteError> {
        match self.is_news(&lookup.path, Fact::Absent) {
            true => self.writer.absent(lookup),
            false => Ok(()),
        }
    }

    pub(crate) fn listed(&mut self, lookup: &Lookup) -> Result<(), WriteError> {
        match self.is_news(&lookup.path, Fact::Listed) {
            true => self.writer.directory(lookup),
            false => Ok(()),
        }
    }

    pub(crate) fn phase(&mut self, phase: Phase, at_us: u64) -> Result<(), WriteError> {
        self.pending = true;
        self.writer.phase(phase, at_us)
    }

    /// To be called now and then.
    pub(crate) fn flush_if_due(&mut self) -> Result<(), WriteError> {
        if self.pending && self.flushed.elapsed() >= FLUSH {
            self.writer.flush()?;
            self.pending = false;
            self.flushed = Instant::now();
        }
        Ok(())
    }

    pub(crate) fn finish(self, tail: &Tail) -> Result<(), WriteError> {
        self.writer.finish(tail).map(drop)
    }

    fn is_news(&mut self, path: &RootPath, fact: Fact) -> bool {
        self.known.insert(self.fingerprints.hash_one((path, fact)))
    }
}

/// The last [`GENERATION`] fingerprints at least, and at most twice as many. What is forgotten may be written down again,
/// which does no harm: readers keep the earliest use.
#[derive(Default)]
struct Known {
    young: HashSet<u64>,
    old: HashSet<u64>,
}

impl Known {
    /// Whether it is new.
    fn insert(&mut self, fingerprint: u64) -> bool {
        if self.old.contains(&fingerprint) || !self.young.insert(fingerprint) {
            return false;
        }
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_fingerprints_are_known_and_memory_is_bounded() {
        let mut known = Known::default();
        for number in 0..5 * GENERATION as u64 {
            assert!(known.insert(number), "{number}");
            assert!(!known.insert(number), "{number}");
            assert!(!known.insert(number.saturating_sub(GENERATION as u64 - 1)), "{number}");
            assert!(known.young.len() + known.old.len() <= 2 * GENERATION);
        }
        assert!(known.insert(0), "the first was never forgotten");
    }
}
