//! Putting together what a file tells in pieces: uses of files, the paths of contents, and what was read of contents.
//!
//! A recorder learns them apart, and in any order: which file was used at its open, which content that is at the open or
//! later, which parts of a content were read when their pages come.

use std::collections::{HashMap, HashSet};

use super::{FORMAT, FileUse, Lookup, Range, Ranges, Use, records};
use crate::codec::BadFile;
use crate::path::RootPath;

/// The most ranges of all contents of a trace, and of all its files: 256 MB in memory.
pub(super) const MAX_RANGES: usize = 16_000_000;

/// The pieces.
#[derive(Default)]
pub(super) struct Parts {
    files: Vec<FileUse>,
    contents: HashSet<(u64, RootPath)>,
    ranges: HashMap<u64, Pile>,
    total: usize,
}

/// Ranges as they come. They are united once, at the end: many small records would else be united with ever longer
/// lists.
#[derive(Default, Clone)]
struct Pile {
    read: Vec<Range>,
    ahead: Vec<Range>,
}

impl Pile {
    fn add(&mut self, read: &[Range], ahead: &[Range]) {
        self.read.extend_from_slice(read);
        self.ahead.extend_from_slice(ahead);
    }

    fn len(&self) -> usize {
        self.read.len() + self.ahead.len()
    }
}

/// What is known of the ranges of a file.
#[derive(Default, Clone)]
enum Known {
    #[default]
    Nothing,
    /// It has a content.
    Content,
    /// Its content has ranges.
    Ranges(Pile),
}

impl Parts {
    pub(super) fn file(&mut self, file: FileUse) {
        self.files.push(file);
    }

    pub(super) fn content(&mut self, id: u64, path: RootPath) {
        self.contents.insert((id, path));
    }

    pub(super) fn ranges(&mut self, id: u64, ranges: Ranges) -> Result<(), BadFile> {
        self.total += ranges.len();
        if self.total > MAX_RANGES {
            return Err(records::too_many(MAX_RANGES, "ranges"));
        }
        self.ranges.entry(id).or_default().add(&ranges.read, &ranges.ahead);
        Ok(())
    }

    /// The files of a finished trace. If its recorder tells ranges, one of which it told none was not read.
    pub(super) fn join(self, told: bool) -> Result<Vec<FileUse>, BadFile> {
        let named: HashSet<u64> = self.contents.iter().map(|(id, _)| *id).collect();
        if let Some(id) = self.ranges.keys().filter(|id| !named.contains(id)).min() {
            return Err(FORMAT.content(format!("ranges of content {id}, which no record gives a path")));
        }
        self.join_as(|known, file| match known {
            Known::Ranges(pile) => Some(Ranges::new(pile.read, pile.ahead)),
            Known::Content => Some(Ranges::default()),
            Known::Nothing => (told && file.tells_ranges()).then(Ranges::default),
        })
    }

    /// The files of a prefix. What is missing may be in the part that is missing.
    pub(super) fn join_prefix(self) -> Result<Vec<FileUse>, BadFile> {
        self.join_as(|known, _| match known {
            Known::Ranges(pile) => Some(Ranges::new(pile.read, pile.ahead)),
            Known::Content | Known::Nothing => None,
        })
    }

    fn join_as(self, ranges: impl Fn(Known, &FileUse) -> Option<Ranges>) -> Result<Vec<FileUse>, BadFile> {
        let mut files = first_uses(self.files);
        let mut known = vec![Known::Nothing; files.len()];
        let places: HashMap<&RootPath, usize> = files.iter().enumerate().map(|(place, f)| (&f.path, place)).collect();
        let mut total = 0;
        for (id, path) in &self.contents {
            // A content whose file was not used is none of a trace's: the recorder could not know when it told it.
            let Some(known) = places.get(path).and_then(|place| known.get_mut(*place)) else { continue };
            match (self.ranges.get(id), &mut *known) {
                (None, Known::Nothing) => *known = Known::Content,
                (None, _) => {}
                (Some(told), known) => {
                    total += told.len();
                    // One content may be at many paths, so this can be more than the file has.
                    if total > MAX_RANGES {
                        return Err(records::too_many(MAX_RANGES, "ranges"));
                    }
                    match known {
                        Known::Ranges(pile) => pile.add(&told.read, &told.ahead),
                        _ => *known = Known::Ranges(told.clone()),
                    }
                }
            }
        }
        for (file, known) in files.iter_mut().zip(known) {
            file.ranges = ranges(known, file);
        }
        Ok(files)
    }
}

/// Each file once, in order of time. Records come as they were written, which is not quite that order.
///
/// The earliest use of a path counts. What a later one still says: that the file was written; and how it was executed,
/// if first the kernel was seen to read it.
fn first_uses(mut files: Vec<FileUse>) -> Vec<FileUse> {
    files.sort_by_key(|file| file.at_us);
    let mut first: HashMap<&RootPath, usize> = HashMap::with_capacity(files.len());
    // What is said of the file in all, at the place of its earliest use.
    let mut said: Vec<Option<(bool, Use)>> = vec![None; files.len()];
    for (place, file) in files.iter().enumerate() {
        let earliest = *first.entry(&file.path).or_insert(place);
        let (written, how) = said[earliest].get_or_insert((file.written, file.how));
        *written |= file.written;
        if *how == Use::Read && matches!(file.how, Use::Exec | Use::Interpreter) {
            *how = file.how;
        }
    }
    let uses = files.into_iter().zip(said);
    uses.filter_map(|(file, said)| said.map(|(written, how)| FileUse { written, how, ..file })).collect()
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
