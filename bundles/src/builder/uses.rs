//! Which file was used in which trace, and when: all of the traces that a bundle is made of.

use std::num::NonZeroU32;

use foldhash::fast::RandomState;
use indexmap::IndexSet;

use super::collect::{Collection, Use};
use super::names::FileName;
use crate::image::ImageId;
use crate::trace::{Phase, Phases, Range};

/// Many traces, reduced to what a bundle needs of them.
#[derive(Debug, Default)]
pub struct Uses {
    pub(super) traces: Vec<Traced>,
    pub(super) files: IndexSet<FileName, RandomState>,
    /// All uses, those of a file beside each other, in the order of the files.
    uses: Vec<FileUsed>,
    /// For each file where its uses end.
    ends: Vec<usize>,
    parts: Parts,
}

/// One trace.
#[derive(Debug)]
pub(super) struct Traced {
    pub(super) image: ImageId,
    pub(super) complete: bool,
    pub(super) profile: String,
    pub(super) phases: Phases,
}

/// One trace's use of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct FileUsed {
    pub(super) trace: u32,
    pub(super) touched: Touched,
    pub(super) at_us: u64,
}

/// What of a file was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Touched {
    /// All, or it is not known.
    All,
    /// Only these, by their number among the parts, from 1.
    Parts(NonZeroU32),
}

/// Parts of files that were read, each list once: most traces of an image have the same.
#[derive(Debug, Default)]
pub(super) struct Parts(IndexSet<Box<[Range]>, RandomState>);

impl Parts {
    pub(super) fn add(&mut self, parts: &[Range]) -> Touched {
        let place = self.0.get_index_of(parts).unwrap_or_else(|| self.0.insert_full(parts.into()).0);
        Touched::Parts(NonZeroU32::MIN.saturating_add(place as u32))
    }

    fn get(&self, number: NonZeroU32) -> &[Range] {
        self.0.get_index(number.get() as usize - 1).map_or(&[], |parts| parts)
    }
}

impl Uses {
    /// The uses of all `collections`, whose traces come in their order.
    pub(super) fn of(collections: Vec<Collection>) -> Self {
        let mut uses = Self::default();
        let mut by_trace = Vec::new();
        for Collection { traces, files, parts, .. } in collections {
            let files: Vec<u32> = files.into_iter().map(|name| uses.files.insert_full(name).0 as u32).collect();
            let touched: Vec<Touched> = parts.0.iter().map(|parts| uses.parts.add(parts)).collect();
            for (traced, mut used) in traces {
                for one in &mut used {
                    one.file = files[one.file as usize];
                    if let Touched::Parts(number) = one.touched {
                        one.touched = touched[number.get() as usize - 1];
                    }
                }
                uses.traces.push(traced);
                by_trace.push(used);
            }
        }
        uses.sort(by_trace);
        uses
    }

    /// Puts the uses of each file beside each other.
    fn sort(&mut self, by_trace: Vec<Vec<Use>>) {
        let mut counts = vec![0; self.files.len()];
        by_trace.iter().flatten().for_each(|used| counts[used.file as usize] += 1);
        // Where the next use of each file goes.
        let mut next: Vec<usize> = Vec::with_capacity(counts.len());
        let all = counts.iter().fold(0, |before, count| {
            next.push(before);
            before + count
        });
        self.uses = vec![FileUsed { trace: 0, touched: Touched::All, at_us: 0 }; all];
        for (trace, used) in (0..).zip(by_trace) {
            for Use { file, touched, at_us } in used {
                let place = &mut next[file as usize];
                self.uses[*place] = FileUsed { trace, touched, at_us };
                *place += 1;
            }
        }
        self.ends = next;
    }

    /// The image of the first trace.
    pub fn image(&self) -> Option<&ImageId> {
        self.traces.first().map(|trace| &trace.image)
    }

    /// The uses of a file that need what is published, at most one a trace.
    pub(super) fn of_file(&self, file: usize) -> &[FileUsed] {
        let begin = file.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.uses[begin..self.ends[file]]
    }

    /// In which phase of its trace a use was.
    pub(super) fn phase(&self, used: &FileUsed) -> Phase {
        self.traces[used.trace as usize].phases.of(used.at_us)
    }

    /// How many traces there are.
    pub fn len(&self) -> usize {
        self.traces.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.traces.is_empty()
    }

    /// Whether `used` read something of bytes `start` to `end` of its file.
    pub(super) fn touches(&self, used: &FileUsed, start: u64, end: u64) -> bool {
        match used.touched {
            Touched::All => true,
            Touched::Parts(number) => {
                let parts = self.parts.get(number);
                let first = parts.partition_point(|part| part.end <= start);
                parts.get(first).is_some_and(|part| part.start < end)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{ChainId, Digest};
    use crate::path::RootPath;
    use crate::trace::{FileUse, Ranges, Trace};

    fn uses(file: FileUse) -> Uses {
        let image = ImageId { chain_id: ChainId(Digest::of(b"x")), manifest: None, reference: String::new() };
        let trace = Trace { files: vec![file], ..Trace::of(image) };
        let mut collection = Collection::default();
        collection.add(&trace.to_bytes().unwrap(), None).unwrap();
        Uses::of(vec![collection])
    }

    fn file() -> FileUse {
        FileUse { size: 100, ..FileUse::of(RootPath::new("/a").unwrap()) }
    }

    #[test]
    fn a_part_is_touched_if_something_in_it_was_asked_for() {
        let read = |parts: &[(u64, u64)]| {
            let parts = parts.iter().map(|(start, end)| Range { start: *start, end: *end }).collect();
            Some(Ranges::new(parts, vec![Range { start: 90, end: 100 }]))
        };
        for (ranges, expected) in [
            (None, [true, true, true]),
            (Some(Ranges::default()), [false; 3]),
            (read(&[]), [false; 3]),
            (read(&[(0, 100)]), [true; 3]),
            (read(&[(0, 30)]), [true, false, false]),
            (read(&[(29, 31)]), [true, true, false]),
            (read(&[(0, 1), (60, 61)]), [true, false, true]),
        ] {
            let uses = uses(FileUse { ranges: ranges.clone(), ..file() });
            let used = uses.of_file(0)[0];
            let touched = [(0, 30), (30, 60), (60, 100)].map(|(start, end)| uses.touches(&used, start, end));
            assert_eq!(touched, expected, "{ranges:?}");
        }
    }

    #[test]
    fn a_written_file_is_used_where_what_the_image_has_was_read() {
        let part = |start, end| Some(Ranges::new(vec![Range { start, end }], Vec::new()));
        for (written, ranges, needed) in [
            (false, None, true),
            (false, Some(Ranges::default()), true),
            (true, None, false),
            (true, Some(Ranges::default()), false),
            (true, part(0, 4096), true),
            (true, Some(Ranges { ahead: vec![Range { start: 0, end: 1 }], ..Ranges::default() }), true),
        ] {
            let uses = uses(FileUse { written, ranges: ranges.clone(), ..file() });
            assert_eq!(uses.of_file(0).len(), usize::from(needed), "{written} {ranges:?}");
        }
    }
}
