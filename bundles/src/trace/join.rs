//! Putting together what a file tells in pieces: uses of files, the paths of contents, and what was read of contents.
//!
//! A recorder learns them apart, and in any order: which file was used at its open, which content that is at the open or
//! later, which parts of a content were read when their pages come.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;

use super::{FORMAT, FileUse, Lookup, PathNumber, Paths, Ranges, Use, records};
use crate::codec::BadFile;

/// The most ranges of all contents of a trace, and of all its files: 256 MB in memory.
pub(super) const MAX_RANGES: usize = 16_000_000;

/// The pieces.
#[derive(Default)]
pub(super) struct Parts {
    files: Vec<FileUse<PathNumber>>,
    contents: HashSet<(u64, PathNumber), RandomState>,
    /// As they come. They are united once, at the end: many small records would else be united with ever longer lists.
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

    pub(super) fn ranges(&mut self, id: u64, ranges: Ranges) -> Result<(), BadFile> {
        self.total += ranges.len();
        if self.total > MAX_RANGES {
            return Err(records::too_many(MAX_RANGES, "ranges"));
        }
        match self.ranges.entry(id) {
            Entry::Vacant(first) => {
                first.insert(ranges);
            }
            Entry::Occupied(mut known) => pile(known.get_mut(), &ranges),
        }
        Ok(())
    }

    /// The files of a finished trace. If its recorder tells ranges, one of which it told none was not read.
    pub(super) fn join(self, paths: &Paths, told: bool) -> Result<Vec<FileUse<PathNumber>>, BadFile> {
        let named: HashSet<u64, RandomState> = self.contents.iter().map(|(id, _)| *id).collect();
        if let Some(id) = self.ranges.keys().filter(|id| !named.contains(id)).min() {
            return Err(FORMAT.content(format!("ranges of content {id}, which no record gives a path")));
        }
        self.join_as(paths, |file| told && file.tells_ranges(), true)
    }

    /// The files of a prefix. What is missing may be in the part that is missing.
    pub(super) fn join_prefix(self, paths: &Paths) -> Result<Vec<FileUse<PathNumber>>, BadFile> {
        self.join_as(paths, |_| false, false)
    }

    /// Of files without ranges those that are `unread` were not read, and those with a content neither if `all_told`.
    fn join_as(
        self,
        paths: &Paths,
        unread: impl Fn(&FileUse<PathNumber>) -> bool,
        all_told: bool,
    ) -> Result<Vec<FileUse<PathNumber>>, BadFile> {
        let (mut files, places) = first_uses(self.files, paths);
        for file in files.iter_mut().filter(|file| unread(file)) {
            file.ranges = Some(Ranges::default());
        }
        let mut total = 0;
        for (id, path) in &self.contents {
            // A content whose file was not used is none of a trace's: the recorder could not know when it told it.
            let Some(file) = files.get_mut(places[path.place()]) else { continue };
            let told = self.ranges.get(id);
            if told.is_none() && !all_told {
                continue;
            }
            let known = file.ranges.get_or_insert_default();
            if let Some(told) = told {
                total += told.len();
                // One content may be at many paths, so this can be more than the file has.
                if total > MAX_RANGES {
                    return Err(records::too_many(MAX_RANGES, "ranges"));
                }
                pile(known, told);
            }
        }
        for ranges in files.iter_mut().filter_map(|file| file.ranges.as_mut()) {
            let Ranges { read, ahead } = std::mem::take(ranges);
            *ranges = Ranges::new(read, ahead);
        }
        Ok(files)
    }
}

fn pile(known: &mut Ranges, more: &Ranges) {
    known.read.extend_from_slice(&more.read);
    known.ahead.extend_from_slice(&more.ahead);
}

/// A place that no file has.
const NOWHERE: usize = usize::MAX;

/// Each file once, in order of time, and of each path the place of its file. Records come as they were written, which is
/// not quite that order.
///
/// The earliest use of a path counts. What a later one still says: that the file was written; and how it was executed,
/// if first the kernel was seen to read it.
fn first_uses(mut uses: Vec<FileUse<PathNumber>>, paths: &Paths) -> (Vec<FileUse<PathNumber>>, Vec<usize>) {
    uses.sort_by_key(|file| file.at_us);
    let mut places = vec![NOWHERE; paths.len()];
    let mut files = 0;
    for next in 0..uses.len() {
        let (before, behind) = uses.split_at_mut(next);
        let (place, used) = (&mut places[behind[0].path.place()], &behind[0]);
        match before.get_mut(*place) {
            None => {
                *place = files;
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
    (uses, places)
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
