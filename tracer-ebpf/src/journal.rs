//! Writes the uses of one container to its trace while it runs.
//!
//! The kernel part reports a use once, but evicts what was not used for long, and two CPUs may report the same use. So each
//! use is looked up here before it is written. To save memory only fingerprints of paths are kept, and only recent ones: a
//! trace may hold a million files.

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

/// How long a use may stay unwritten. A crash loses no more than this.
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);
/// Fingerprints in one generation: twice as many as the kernel part keeps.
const GENERATION: usize = 1 << 18;
/// Most contents that ranges are written for: twice what the kernel's map of page bitmaps holds. A container with more has
/// filled that map, which its trace reports.
const MAX_CONTENTS: usize = 1 << 18;
/// Most scripts waiting for their interpreter to open them. Each waits only for that open.
const MAX_SCRIPTS: usize = 4096;

/// A use of a file, by its path in the container.
#[derive(Debug, Clone)]
pub(crate) struct PathUse {
    pub(crate) path: RootPath,
    pub(crate) at_us: u64,
    pub(crate) size: u64,
    pub(crate) open_flags: u32,
    pub(crate) how: Use,
    pub(crate) written: bool,
    pub(crate) process: Process,
}

/// What is written of a path, each at most once.
#[derive(Debug, Clone, Copy, Hash, PartialEq, Eq)]
enum Fact {
    Used,
    Executed,
    Written,
    Absent,
    Listed,
}

/// A script that was executed and that its interpreter has not opened yet.
struct PendingScript {
    at_us: u64,
    name: Vec<u8>,
}

pub(crate) struct Journal {
    writer: TraceWriter<Output>,
    seen: SeenFingerprints,
    /// The ids of contents that were written, so that ranges may refer to them.
    contents: HashSet<u64>,
    hasher: RandomState,
    /// By host pid.
    scripts: HashMap<u32, PendingScript>,
    files: usize,
    max_files: usize,
    /// Files that were dropped because the trace already had `max_files`.
    pub(crate) files_over_limit: u64,
    pub(crate) excluded: Excluded,
    last_flush: Instant,
    needs_flush: bool,
}

impl Journal {
    pub(crate) fn new(out: Output, head: &Head, max_files: usize) -> Result<Self, WriteError> {
        Ok(Self {
            writer: TraceWriter::new(out, head)?,
            seen: SeenFingerprints::default(),
            contents: HashSet::new(),
            hasher: RandomState::new(),
            scripts: HashMap::new(),
            files: 0,
            max_files,
            files_over_limit: 0,
            excluded: Excluded::default(),
            last_flush: Instant::now(),
            needs_flush: false,
        })
    }

    /// The number of different files used so far.
    pub(crate) fn files(&self) -> usize {
        self.files
    }

    /// Notes that a script was executed, so that the open by its interpreter counts as an exec at this time.
    pub(crate) fn expect_script(&mut self, at_us: u64, host_process: u32, name: Vec<u8>) {
        if self.scripts.len() < MAX_SCRIPTS || self.scripts.contains_key(&host_process) {
            self.scripts.insert(host_process, PendingScript { at_us, name });
        }
    }

    /// Writes a use, unless everything about it has been written.
    pub(crate) fn add_use(&mut self, mut path_use: PathUse, host_process: u32) -> Result<(), WriteError> {
        if path_use.how == Use::Open
            && let Some(script) = self.scripts.get(&host_process).filter(|script| script.name == path_use.path.name())
        {
            path_use = PathUse { at_us: script.at_us, open_flags: 0, how: Use::Exec, ..path_use };
            self.scripts.remove(&host_process);
        }
        let is_executed = matches!(path_use.how, Use::Exec | Use::Interpreter);
        let new = self.is_new(&path_use.path, Fact::Used);
        let newly_executed = is_executed && self.is_new(&path_use.path, Fact::Executed);
        let newly_written = path_use.written && self.is_new(&path_use.path, Fact::Written);
        if !new && !newly_executed && !newly_written {
            return Ok(());
        }
        if new && self.files >= self.max_files {
            self.files_over_limit += 1;
            return Ok(());
        }
        self.files += usize::from(new);
        self.needs_flush = true;
        self.writer.file(&FileUse {
            path: path_use.path,
            at_us: path_use.at_us,
            size: path_use.size,
            open_flags: path_use.open_flags,
            how: path_use.how,
            process: path_use.process,
            written: path_use.written,
            ranges: None,
        })
    }

    /// Writes that the file at `path` has the content that ranges refer to as `id`.
    pub(crate) fn content(&mut self, id: u64, path: &RootPath) -> Result<(), WriteError> {
        if self.contents.len() >= MAX_CONTENTS {
            return Ok(());
        }
        self.needs_flush = true;
        self.contents.insert(id);
        self.writer.content(id, path)
    }

    /// Writes the used ranges of a content. Ranges of an excluded content are dropped.
    pub(crate) fn ranges(&mut self, id: u64, ranges: &Ranges) -> Result<(), WriteError> {
        if self.contents.contains(&id) { self.writer.ranges(id, ranges) } else { Ok(()) }
    }

    pub(crate) fn repository(&mut self, repository: &MountedRepository) -> Result<(), WriteError> {
        self.writer.repository(repository)
    }

    pub(crate) fn absent(&mut self, lookup: &Lookup) -> Result<(), WriteError> {
        if self.is_new(&lookup.path, Fact::Absent) { self.writer.absent(lookup) } else { Ok(()) }
    }

    pub(crate) fn listed(&mut self, lookup: &Lookup) -> Result<(), WriteError> {
        if self.is_new(&lookup.path, Fact::Listed) { self.writer.directory(lookup) } else { Ok(()) }
    }

    pub(crate) fn phase(&mut self, phase: Phase, at_us: u64) -> Result<(), WriteError> {
        self.needs_flush = true;
        self.writer.phase(phase, at_us)
    }

    /// Flushes the trace if something has waited for [`FLUSH_INTERVAL`]. Callers call it periodically.
    pub(crate) fn flush_if_due(&mut self) -> Result<(), WriteError> {
        if self.needs_flush && self.last_flush.elapsed() >= FLUSH_INTERVAL {
            self.writer.flush()?;
            self.needs_flush = false;
            self.last_flush = Instant::now();
        }
        Ok(())
    }

    pub(crate) fn finish(self, tail: &Tail) -> Result<(), WriteError> {
        self.writer.finish(tail).map(drop)
    }

    fn is_new(&mut self, path: &RootPath, fact: Fact) -> bool {
        self.seen.insert(self.hasher.hash_one((path, fact)))
    }
}

/// The most recent fingerprints: between one and two generations. What was evicted may be written again, which is harmless:
/// readers of traces keep the earliest use.
#[derive(Default)]
struct SeenFingerprints {
    current: HashSet<u64>,
    previous: HashSet<u64>,
}

impl SeenFingerprints {
    /// Returns whether the fingerprint is new.
    fn insert(&mut self, fingerprint: u64) -> bool {
        if self.previous.contains(&fingerprint) || !self.current.insert(fingerprint) {
            return false;
        }
        if self.current.len() >= GENERATION {
            self.previous = std::mem::take(&mut self.current);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recent_fingerprints_are_remembered_in_bounded_memory() {
        let mut seen = SeenFingerprints::default();
        for number in 0..5 * GENERATION as u64 {
            assert!(seen.insert(number), "{number}");
            assert!(!seen.insert(number), "{number}");
            assert!(!seen.insert(number.saturating_sub(GENERATION as u64 - 1)), "{number}");
            assert!(seen.current.len() + seen.previous.len() <= 2 * GENERATION);
        }
        assert!(seen.insert(0), "the first fingerprint was never evicted");
    }
}
