//! Records of other programs, as traces.
//!
//! A parser takes a file's bytes and tells the files used, each once, in order of first use; what it had to leave out,
//! counted; and what its source cannot know. It trusts nothing: sizes and numbers are limited, and paths are brought
//! into normal form or counted as not told.

mod csv;
mod cvmfs;
mod nydus;
mod stargz;
mod strace;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fmt;

use super::{Clock, End, FileUse, Losses, Trace, Unseen, Use};
use crate::codec::MAX_PAYLOAD;
use crate::image::{Digest, ImageId};
use crate::path::RootPath;

/// The most files that are taken from a record.
const MAX_FILES: usize = 1_000_000;

/// Who made a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// `ctr-remote image optimize --record-out` of stargz-snapshotter: lines of JSON.
    Stargz,
    /// The optimizer of nydus-snapshotter: CSV of path, size and microseconds.
    Nydus,
    /// A CVMFS client with `CVMFS_TRACEFILE`: CSV of time, event, path and message.
    Cvmfs,
    /// `strace -f`, best with `-y -ttt`.
    Strace,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stargz => "stargz record",
            Self::Nydus => "nydus optimizer",
            Self::Cvmfs => "CVMFS_TRACEFILE",
            Self::Strace => "strace",
        })
    }
}

/// A record that cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum BadRecord {
    /// Too much.
    #[error("the record has more than {limit} {what}; cut it, or record a shorter time")]
    TooLarge {
        /// Of what there is too much.
        what: &'static str,
        /// How much is allowed.
        limit: usize,
    },
    /// A line is not as the source writes it.
    #[error("line {line} is not of a {source_name}: {why}")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// What it should be of.
        source_name: Source,
        /// What is wrong.
        why: String,
    },
    /// There is nothing in it.
    #[error("there is no use of a file in this {0}; is it a file of that format?")]
    Empty(Source),
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// Who made it.
    pub source: Source,
    /// The files, each once, in order of first use.
    pub files: Vec<FileUse>,
    /// Microseconds from the first event to the last; 0 where times are not known.
    pub duration_us: u64,
    /// Seconds since 1970 at the first event; 0 where that is not known.
    pub started: u64,
    /// Events that could not be taken.
    pub lost: Losses,
    /// What the source cannot know.
    pub unseen: Unseen,
    /// The manifest of the image, if the record names it.
    pub manifest: Option<Digest>,
}

/// Reads the bytes of a record.
pub fn import(source: Source, bytes: &[u8]) -> Result<Imported, BadRecord> {
    if bytes.len() > MAX_PAYLOAD {
        return Err(BadRecord::TooLarge { what: "bytes", limit: MAX_PAYLOAD });
    }
    let imported = match source {
        Source::Stargz => stargz::parse(bytes),
        Source::Nydus => nydus::parse(bytes),
        Source::Cvmfs => cvmfs::parse(bytes),
        Source::Strace => strace::parse(bytes),
    }?;
    if imported.files.is_empty() { Err(BadRecord::Empty(source)) } else { Ok(imported) }
}

impl Imported {
    fn new(source: Source, unseen: Unseen) -> Self {
        // Nobody but our own recorder follows pages.
        let (files, lost, unseen) = (Vec::new(), Losses::default(), unseen.and(Unseen::RANGES));
        Self { source, files, duration_us: 0, started: 0, lost, unseen, manifest: None }
    }

    /// The trace of a container of `image`.
    pub fn into_trace(self, image: ImageId) -> Trace {
        Trace {
            clock: Clock::from_started(self.started),
            duration_us: self.duration_us,
            end: End::NotTold,
            recorder: format!("import of {} (cvmfs-prefetch {})", self.source, env!("CARGO_PKG_VERSION")),
            unseen: self.unseen,
            lost: self.lost,
            files: self.files,
            ..Trace::of(image)
        }
    }
}

/// Collects uses, of which the first of a path counts.
#[derive(Default)]
struct FirstUses {
    seen: HashSet<RootPath>,
    files: Vec<FileUse>,
}

impl FirstUses {
    fn add(&mut self, file: FileUse) -> Result<(), BadRecord> {
        if self.seen.contains(&file.path) {
            return Ok(());
        }
        if self.files.len() == MAX_FILES {
            return Err(BadRecord::TooLarge { what: "files", limit: MAX_FILES });
        }
        self.seen.insert(file.path.clone());
        self.files.push(file);
        Ok(())
    }
}

/// The use of a file, of which these records tell no more.
fn used(path: RootPath, at_us: u64, size: u64, open_flags: u32, how: Use) -> FileUse {
    FileUse { at_us, size, open_flags, how, ..FileUse::of(path) }
}
