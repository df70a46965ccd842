//! Which files the traces used, and when.
//!
//! [`Uses::read`] reads traces on all processors. Each thread reduces its traces to a [`Collection`]: memory grows with
//! the number of uses, not with what else the traces hold. [`Uses::merge`] then puts the uses of each file side by side.

use std::num::NonZeroU32;
use std::path::PathBuf;

use foldhash::fast::RandomState;
use indexmap::IndexSet;
use rayon::prelude::*;

use super::profiles;
use crate::codec::FormatError;
use crate::file::{self, FileError};
use crate::image::ImageId;
use crate::path::RootPath;
use crate::phase::Phase;
use crate::trace::{FileUse, MountedRepository, PathNumber, Paths, Phases, Range, read_numbered};

/// A trace file to build from.
#[derive(Debug, Clone)]
pub struct TraceFile {
    /// The file.
    pub path: PathBuf,
    /// The profile it counts for; `None` for the one that the trace names.
    pub profile: Option<String>,
}

/// Many traces, reduced to what a bundle needs of them.
#[derive(Debug, Default)]
pub struct Uses {
    pub(super) traces: Vec<TraceFacts>,
    pub(super) files: IndexSet<FileName, RandomState>,
    /// All uses: those of a file side by side, in the order of the files.
    uses: Vec<FileUsed>,
    /// For each file, where its uses end.
    ends: Vec<usize>,
    parts: Parts,
}

/// What weighing needs to know about one trace.
#[derive(Debug)]
pub(super) struct TraceFacts {
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

/// The file that a container used, whatever the path was at which it saw it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum FileName {
    /// A file of the image, by its path in the container.
    Image(RootPath),
    /// A file of another repository, by the repository's name and the path in it.
    Other(String, RootPath),
}

/// Which bytes of a file were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Touched {
    /// All, or the trace does not say.
    All,
    /// Only these, by their number among the [`Parts`], from 1.
    Parts(NonZeroU32),
}

/// Lists of ranges, each stored once: most traces of an image read the same ranges of a file.
#[derive(Debug, Default)]
struct Parts(IndexSet<Box<[Range]>, RandomState>);

/// The uses of some traces, before those of all threads are merged.
#[derive(Debug, Default)]
pub(super) struct Collection {
    traces: Vec<(TraceFacts, Vec<CollectedUse>)>,
    files: IndexSet<FileName, RandomState>,
    parts: Parts,
    /// All paths of all traces.
    paths: Paths,
    known: KnownFiles,
}

/// A use of a file that needs the file's published content.
#[derive(Debug)]
struct CollectedUse {
    /// The file's index among all.
    file: u32,
    touched: Touched,
    at_us: u64,
}

/// The files at the paths of the last trace. The next trace mostly has the same mounts, so its paths mean the same files.
#[derive(Debug, Default)]
struct KnownFiles {
    repositories: Vec<MountedRepository>,
    by_path: Vec<Option<u32>>,
}

impl FileName {
    /// The file that a container with these repositories sees at `path`.
    fn new(mounted: &[MountedRepository], path: RootPath) -> Self {
        let inside = |mounted: &RootPath| {
            let rest = path.as_bytes().strip_prefix(mounted.as_bytes())?;
            RootPath::new(rest).ok()
        };
        // The innermost mount hides the others.
        let found = mounted.iter().filter_map(|mounted| Some((mounted, inside(&mounted.path)?)));
        match found.max_by_key(|(mounted, _)| mounted.path.as_bytes().len()) {
            Some((mounted, inside)) => Self::Other(mounted.name.clone(), inside),
            None => Self::Image(path),
        }
    }
}

impl Parts {
    fn add(&mut self, parts: &[Range]) -> Touched {
        let index = self.0.get_index_of(parts).unwrap_or_else(|| self.0.insert_full(parts.into()).0);
        Touched::Parts(NonZeroU32::MIN.saturating_add(index as u32))
    }

    fn get(&self, number: NonZeroU32) -> &[Range] {
        self.0.get_index(number.get() as usize - 1).map_or(&[], |parts| parts)
    }
}

impl Collection {
    /// Reads these trace files.
    fn read(traces: &[TraceFile]) -> Result<Self, FileError> {
        let mut collection = Self::default();
        for TraceFile { path, profile } in traces {
            file::read(path, |bytes| collection.add(bytes, profile.as_deref()))?;
        }
        Ok(collection)
    }

    /// Adds the trace in a file's bytes. A given `profile` overrides the one that the trace names.
    pub(super) fn add(&mut self, file: &[u8], profile: Option<&str>) -> Result<(), FormatError> {
        let (trace, files) = read_numbered(file, &mut self.paths)?;
        if self.known.repositories != trace.repositories {
            self.known = KnownFiles { repositories: trace.repositories.clone(), by_path: Vec::new() };
        }
        self.known.by_path.resize(self.paths.len(), None);
        let mut uses = Vec::with_capacity(files.len());
        for used in &files {
            let file = self.file_at(used.path);
            if used.needs_image() {
                uses.push(CollectedUse { file, touched: self.touched(used), at_us: used.at_us });
            }
        }
        let facts = TraceFacts {
            complete: trace.is_complete(),
            profile: profiles::name_of(profile.unwrap_or(&trace.profile), &trace.command, &files, &self.paths),
            phases: trace.phases,
            image: trace.image,
        };
        self.traces.push((facts, uses));
        Ok(())
    }

    /// The index of the file that the last trace's container saw at a path.
    fn file_at(&mut self, path: PathNumber) -> u32 {
        let KnownFiles { repositories, by_path } = &mut self.known;
        *by_path[path.as_usize()].get_or_insert_with(|| {
            let name = FileName::new(repositories, self.paths.get(path));
            self.files.insert_full(name).0 as u32
        })
    }

    fn touched(&mut self, used: &FileUse<PathNumber>) -> Touched {
        // Only requested ranges count: a program does not wait for what the kernel reads ahead.
        match used.ranges.as_ref().map(|ranges| ranges.read.as_slice()) {
            None => Touched::All,
            Some([part]) if part.start == 0 && part.end >= used.size => Touched::All,
            Some(parts) => self.parts.add(parts),
        }
    }
}

impl Uses {
    /// Reads trace files on all processors. Each thread reads a run of neighbouring files.
    pub fn read(traces: &[TraceFile]) -> Result<Self, FileError> {
        let run = traces.len().div_ceil(rayon::current_num_threads()).max(1);
        let collections: Result<Vec<_>, _> = traces.par_chunks(run).map(Collection::read).collect();
        Ok(Self::merge(collections?))
    }

    /// Merges collections; the traces keep their order.
    pub(super) fn merge(collections: Vec<Collection>) -> Self {
        let mut merged = Self::default();
        let mut by_trace = Vec::new();
        for Collection { traces, files, parts, .. } in collections {
            let files: Vec<u32> = files.into_iter().map(|name| merged.files.insert_full(name).0 as u32).collect();
            let touched: Vec<Touched> = parts.0.iter().map(|parts| merged.parts.add(parts)).collect();
            for (facts, mut uses) in traces {
                for used in &mut uses {
                    used.file = files[used.file as usize];
                    if let Touched::Parts(number) = used.touched {
                        used.touched = touched[number.get() as usize - 1];
                    }
                }
                merged.traces.push(facts);
                by_trace.push(uses);
            }
        }
        merged.sort_by_file(by_trace);
        merged
    }

    /// Puts the uses of each file side by side.
    fn sort_by_file(&mut self, by_trace: Vec<Vec<CollectedUse>>) {
        let mut counts = vec![0; self.files.len()];
        by_trace.iter().flatten().for_each(|used| counts[used.file as usize] += 1);
        // Where the next use of each file goes.
        let mut next: Vec<usize> = Vec::with_capacity(counts.len());
        let total = counts.iter().fold(0, |before, count| {
            next.push(before);
            before + count
        });
        self.uses = vec![FileUsed { trace: 0, touched: Touched::All, at_us: 0 }; total];
        for (trace, uses) in (0..).zip(by_trace) {
            for CollectedUse { file, touched, at_us } in uses {
                let position = &mut next[file as usize];
                self.uses[*position] = FileUsed { trace, touched, at_us };
                *position += 1;
            }
        }
        self.ends = next;
    }

    /// The image of the first trace.
    pub fn image(&self) -> Option<&ImageId> {
        self.traces.first().map(|trace| &trace.image)
    }

    /// The uses of a file that need its published content, at most one per trace.
    pub(super) fn uses_of(&self, file: usize) -> &[FileUsed] {
        let begin = file.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.uses[begin..self.ends[file]]
    }

    /// The phase of its trace in which a use was.
    pub(super) fn phase(&self, used: &FileUsed) -> Phase {
        self.traces[used.trace as usize].phases.phase_at(used.at_us)
    }

    /// The number of traces.
    pub fn len(&self) -> usize {
        self.traces.len()
    }

    /// Whether there are no traces.
    pub fn is_empty(&self) -> bool {
        self.traces.is_empty()
    }

    /// Whether `used` read any of the bytes from `start` to `end` of its file.
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
    use crate::trace::{Ranges, Trace};

    fn uses(file: FileUse) -> Uses {
        let image = ImageId { chain_id: ChainId(Digest::sha256(b"x")), manifest: None, reference: String::new() };
        let trace = Trace { files: vec![file], ..Trace::new(image) };
        let mut collection = Collection::default();
        collection.add(&trace.to_bytes().unwrap(), None).unwrap();
        Uses::merge(vec![collection])
    }

    fn file() -> FileUse {
        FileUse { size: 100, ..FileUse::new(RootPath::new("/a").unwrap()) }
    }

    #[test]
    fn a_part_counts_as_read_if_any_of_its_bytes_was() {
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
            let used = uses.uses_of(0)[0];
            let touched = [(0, 30), (30, 60), (60, 100)].map(|(start, end)| uses.touches(&used, start, end));
            assert_eq!(touched, expected, "{ranges:?}");
        }
    }

    #[test]
    fn a_written_file_counts_if_its_old_content_was_read() {
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
            assert_eq!(uses.uses_of(0).len(), usize::from(needed), "{written} {ranges:?}");
        }
    }

    #[test]
    fn files_belong_to_the_image_or_to_the_innermost_repository() {
        let path = |text: &str| RootPath::new(text).unwrap();
        let mounted = |at: &str, name: &str| MountedRepository { path: path(at), name: name.into() };
        let repositories = [mounted("/cvmfs/a.b", "a.b"), mounted("/cvmfs/a.b/in", "c.d")];
        for (at, expected) in [
            ("/bin/sh", FileName::Image(path("/bin/sh"))),
            ("/cvmfs/a.bc/x", FileName::Image(path("/cvmfs/a.bc/x"))),
            ("/cvmfs/a.b/x/y", FileName::Other("a.b".into(), path("/x/y"))),
            ("/cvmfs/a.b/in/y", FileName::Other("c.d".into(), path("/y"))),
        ] {
            assert_eq!(FileName::new(&repositories, path(at)), expected);
        }
    }
}
