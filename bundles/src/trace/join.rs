//! Joining the pieces of a trace file: uses of files, paths of contents, and ranges of contents.
//!
//! A recorder learns them separately and in any order: the use of a file at its open, the content at the open or later, the ranges
//! when pages are read.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;

use super::{FORMAT, FileUse, Lookup, PathNumber, Paths, Ranges, Use, records};
use crate::codec::FormatError;

/// Most ranges of all contents of a trace, and of all its files: 256 MB in memory.
pub(super) const MAX_RANGES: usize = 16_000_000;

/// The pieces of a trace, as they are read.
#[derive(Default)]
pub(super) struct Parts {
    files: Vec<FileUse<PathNumber>>,
    contents: HashSet<(u64, PathNumber), RandomState>,
    /// Unmerged. They are merged once, at the end: merging many small records one by one would take quadratic
    /// time.
    ranges: HashMap<u64, Ranges, RandomState>,
    total: usize,
}

impl Parts {
    pub(super) fn file(&mut self, file: FileUse<PathNumber>) {
        self.files.push(file);
    }

    pub(super) fn content(&mut self, id: u64, path: PathNumber) {
        self.contents.insert((id, path));
    }

    pub(super) fn ranges(&mut self, id: u64, ranges: Ranges) -> Result<(), FormatError> {
        self.total += ranges.len();
        if self.total > MAX_RANGES {
            return Err(records::too_many(MAX_RANGES, "ranges"));
        }
        match self.ranges.entry(id) {
            Entry::Vacant(first) => {
                first.insert(ranges);
            }
            Entry::Occupied(mut known) => append(known.get_mut(), &ranges),
        }
        Ok(())
    }

    /// The files of a finished trace. If its recorder records ranges, a file without any was not read.
    pub(super) fn join(self, paths: &Paths, has_ranges: bool) -> Result<Vec<FileUse<PathNumber>>, FormatError> {
        let named: HashSet<u64, RandomState> = self.contents.iter().map(|(id, _)| *id).collect();
        if let Some(id) = self.ranges.keys().filter(|id| !named.contains(id)).min() {
            return Err(FORMAT.content(format!("ranges of content {id}, for which no record has a path")));
        }
        self.join_as(paths, |file| has_ranges && file.has_recorded_ranges(), true)
    }

    /// The files of a prefix. What is missing may be in the missing part.
    pub(super) fn join_prefix(self, paths: &Paths) -> Result<Vec<FileUse<PathNumber>>, FormatError> {
        self.join_as(paths, |_| false, false)
    }

    /// Joins the pieces. Files without ranges for which `unread` holds were not read; neither were files with
    /// a content but no ranges if `complete`.
    fn join_as(
        self,
        paths: &Paths,
        unread: impl Fn(&FileUse<PathNumber>) -> bool,
        complete: bool,
    ) -> Result<Vec<FileUse<PathNumber>>, FormatError> {
        let (mut files, file_at) = first_uses(self.files, paths);
        for file in files.iter_mut().filter(|file| unread(file)) {
            file.ranges = Some(Ranges::default());
        }
        let mut total = 0;
        for (id, path) in &self.contents {
            // A content of an unused file does not belong to the trace: the recorder could not know that when
            // it recorded the content.
            let Some(file) = files.get_mut(file_at[path.as_usize()]) else { continue };
            let recorded = self.ranges.get(id);
            if recorded.is_none() && !complete {
                continue;
            }
            let known = file.ranges.get_or_insert_default();
            if let Some(recorded) = recorded {
                total += recorded.len();
                // One content may be at many paths, so this can exceed what the file has.
                if total > MAX_RANGES {
                    return Err(records::too_many(MAX_RANGES, "ranges"));
                }
                append(known, recorded);
            }
        }
        for ranges in files.iter_mut().filter_map(|file| file.ranges.as_mut()) {
            let Ranges { read, ahead } = std::mem::take(ranges);
            *ranges = Ranges::new(read, ahead);
        }
        Ok(files)
    }
}

fn append(known: &mut Ranges, more: &Ranges) {
    known.read.extend_from_slice(&more.read);
    known.ahead.extend_from_slice(&more.ahead);
}

/// Index for a path without a file.
const NO_FILE: usize = usize::MAX;

/// Each file once, in order of time, and the index of the file of each path. Records come as they were written, which is nearly
/// that order.
///
/// The earliest use of a path counts. Later uses add that the file was written, and how it was executed if the first use seen was the
/// kernel reading it.
fn first_uses(mut uses: Vec<FileUse<PathNumber>>, paths: &Paths) -> (Vec<FileUse<PathNumber>>, Vec<usize>) {
    uses.sort_by_key(|file| file.at_us);
    let mut file_at = vec![NO_FILE; paths.len()];
    let mut files = 0;
    for next in 0..uses.len() {
        let (before, behind) = uses.split_at_mut(next);
        let used = &behind[0];
        let index = &mut file_at[behind[0].path.as_usize()];
        match before.get_mut(*index) {
            None => {
                *index = files;
                uses.swap(files, next);
                files += 1;
            }
            Some(earliest) => {
                earliest.written |= used.written;
                if earliest.how == Use::Read && matches!(used.how, Use::Exec | Use::Interpreter) {
                    earliest.how = used.how;
                }
            }
        }
    }
    uses.truncate(files);
    (uses, file_at)
}

/// Each path once, in order of time.
pub(super) fn first_lookups(mut lookups: Vec<Lookup>) -> Vec<Lookup> {
    lookups.sort_by_key(|lookup| lookup.at_us);
    let mut seen = HashSet::with_capacity(lookups.len());
    let first: Vec<bool> = lookups.iter().map(|lookup| seen.insert(&lookup.path)).collect();
    let mut first = first.into_iter();
    lookups.retain(|_| first.next().unwrap_or(false));
    lookups
}
