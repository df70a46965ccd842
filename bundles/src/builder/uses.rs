//! Which file was used in which trace, and when: all of the traces that a bundle is made of.
//!
//! Traces are added one by one and not kept, so that memory grows with the uses only, not with all that is told of them.

use std::collections::HashMap;

use super::profiles;
use crate::image::ImageId;
use crate::path::RootPath;
use crate::trace::{FileUse, MountedRepository, Phase, Range, Trace};

/// Many traces, reduced to what a bundle needs of them.
#[derive(Debug, Default)]
pub struct Uses {
    pub(super) traces: Vec<Traced>,
    pub(super) files: Vec<UsedFile>,
    known: HashMap<FileName, usize>,
    /// Parts of files that were read, each list once: most traces of an image have the same.
    parts: Vec<Box<[Range]>>,
    known_parts: HashMap<Box<[Range]>, u32>,
}

/// One trace.
#[derive(Debug)]
pub(super) struct Traced {
    pub(super) image: ImageId,
    pub(super) complete: bool,
    pub(super) profile: String,
}

/// What a file is called.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum FileName {
    /// Of the image, by its path in the container.
    Image(RootPath),
    /// Of another repository, by that one's name and the path in it.
    Other(String, RootPath),
}

/// A file, and who used it.
#[derive(Debug)]
pub(super) struct UsedFile {
    pub(super) name: FileName,
    /// The uses that need what is published, at most one a trace.
    pub(super) uses: Vec<FileUsed>,
}

/// One trace's use of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct FileUsed {
    pub(super) trace: u32,
    pub(super) phase: Phase,
    pub(super) touched: Touched,
    pub(super) at_us: u64,
}

/// What of a file was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Touched {
    /// All, or it is not known.
    All,
    /// Only these, by their place among the parts.
    Parts(u32),
}

impl Uses {
    /// Adds a trace.
    pub fn add(&mut self, trace: Trace) {
        let number = self.traces.len() as u32;
        self.traces.push(Traced {
            image: trace.image.clone(),
            complete: trace.is_complete(),
            profile: profiles::name_of(&trace),
        });
        for used in trace.files {
            let needed = used.needs_image().then(|| FileUsed {
                trace: number,
                phase: trace.phases.of(used.at_us),
                touched: self.touched(&used),
                at_us: used.at_us,
            });
            let next = self.files.len();
            let place = *self.known.entry(name(&trace.repositories, used.path)).or_insert_with_key(|name| {
                self.files.push(UsedFile { name: name.clone(), uses: Vec::new() });
                next
            });
            self.files[place].uses.extend(needed);
        }
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
            Touched::Parts(place) => {
                let parts = self.parts.get(place as usize).map_or(&[][..], |parts| parts);
                let first = parts.partition_point(|part| part.end <= start);
                parts.get(first).is_some_and(|part| part.start < end)
            }
        }
    }

    fn touched(&mut self, used: &FileUse) -> Touched {
        // Only what was asked for counts: what the kernel read ahead it would not have waited for.
        let Some(ranges) = &used.ranges else { return Touched::All };
        match ranges.read.as_slice() {
            [part] if part.start == 0 && part.end >= used.size => Touched::All,
            read => {
                let next = self.parts.len() as u32;
                let place = *self.known_parts.entry(read.into()).or_insert_with_key(|read| {
                    self.parts.push(read.clone());
                    next
                });
                Touched::Parts(place)
            }
        }
    }
}

/// What the file at `path` in a container with these repositories is called.
fn name(mounted: &[MountedRepository], path: RootPath) -> FileName {
    let inside = |mounted: &RootPath| {
        let rest = path.as_bytes().strip_prefix(mounted.as_bytes())?;
        RootPath::new(rest).ok()
    };
    // The innermost mount is the one that is seen.
    let found = mounted.iter().filter_map(|mounted| Some((mounted, inside(&mounted.path)?)));
    match found.max_by_key(|(mounted, _)| mounted.path.as_bytes().len()) {
        Some((mounted, inside)) => FileName::Other(mounted.name.clone(), inside),
        None => FileName::Image(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{ChainId, Digest};
    use crate::trace::Ranges;

    fn path(text: &str) -> RootPath {
        RootPath::new(text).unwrap()
    }

    fn trace(files: Vec<FileUse>) -> Trace {
        let image = ImageId { chain_id: ChainId(Digest::of(b"x")), manifest: None, reference: String::new() };
        Trace { files, ..Trace::of(image) }
    }

    #[test]
    fn files_are_the_images_or_those_of_the_innermost_repository() {
        let mounted = |path_: &str, name: &str| MountedRepository { path: path(path_), name: name.into() };
        let repositories = [mounted("/cvmfs/a.b", "a.b"), mounted("/cvmfs/a.b/in", "c.d")];
        for (of, expected) in [
            ("/bin/sh", FileName::Image(path("/bin/sh"))),
            ("/cvmfs/a.bc/x", FileName::Image(path("/cvmfs/a.bc/x"))),
            ("/cvmfs/a.b/x/y", FileName::Other("a.b".into(), path("/x/y"))),
            ("/cvmfs/a.b/in/y", FileName::Other("c.d".into(), path("/y"))),
        ] {
            assert_eq!(name(&repositories, path(of)), expected);
        }
    }

    #[test]
    fn a_part_is_touched_if_something_in_it_was_asked_for() {
        let file = |ranges: Option<Ranges>| FileUse { size: 100, ranges, ..FileUse::of(path("/a")) };
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
            let mut uses = Uses::default();
            uses.add(trace(vec![file(ranges.clone())]));
            let used = uses.files[0].uses[0];
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
            let mut uses = Uses::default();
            uses.add(trace(vec![FileUse { written, ranges: ranges.clone(), ..FileUse::of(path("/a")) }]));
            assert_eq!(uses.files[0].uses.len(), usize::from(needed), "{written} {ranges:?}");
        }
    }
}
