//! Import of other programs' recordings as traces.
//!
//! A parser takes a file's bytes and returns the files used, each once, in order of first use, with counts of what it could not use and
//! the blind spots of its source. It trusts nothing: sizes and numbers are limited, and paths are normalized or counted as
//! unresolved.

mod csv;
mod cvmfs;
mod nydus;
mod stargz;
mod strace;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fmt;

use super::{BlindSpots, Clock, End, FileUse, Losses, Trace, Use};
use crate::codec::MAX_PAYLOAD;
use crate::image::{Digest, ImageId};
use crate::path::RootPath;

/// Most files of an import.
const MAX_FILES: usize = 1_000_000;

/// The program that made a recording.
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

/// The file cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It exceeds a limit.
    #[error("the file has more than {limit} {what}; truncate it, or record a shorter time")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// A line is not as its source writes it.
    #[error("line {line} is not valid in a {source_name} file: {reason}")]
    Line {
        /// Number of the line, from 1.
        line: usize,
        /// The expected source.
        source_name: Source,
        /// What is wrong with the line.
        reason: String,
    },
    /// It has no uses of files.
    #[error("the {0} file contains no use of a file; is it a file of that format?")]
    Empty(Source),
}

/// An imported recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The program that made it.
    pub source: Source,
    /// The files, each once, in order of first use.
    pub files: Vec<FileUse>,
    /// Microseconds from the first event to the last; 0 if unknown.
    pub duration_us: u64,
    /// Seconds since 1970 at the first event; 0 if unknown.
    pub started: u64,
    /// Events that could not be used.
    pub losses: Losses,
    /// What the source cannot see.
    pub blind_spots: BlindSpots,
    /// Manifest digest of the image, if the file names it.
    pub manifest: Option<Digest>,
}

/// Parses the bytes of a file of `source`.
pub fn import(source: Source, bytes: &[u8]) -> Result<Imported, ImportError> {
    if bytes.len() > MAX_PAYLOAD {
        return Err(ImportError::TooLarge { what: "bytes", limit: MAX_PAYLOAD });
    }
    let imported = match source {
        Source::Stargz => stargz::parse(bytes),
        Source::Nydus => nydus::parse(bytes),
        Source::Cvmfs => cvmfs::parse(bytes),
        Source::Strace => strace::parse(bytes),
    }?;
    if imported.files.is_empty() { Err(ImportError::Empty(source)) } else { Ok(imported) }
}

impl Imported {
    fn new(source: Source, blind_spots: BlindSpots) -> Self {
        // Only our own recorder follows pages.
        Self {
            source,
            files: Vec::new(),
            duration_us: 0,
            started: 0,
            losses: Losses::default(),
            blind_spots: blind_spots.and(BlindSpots::RANGES),
            manifest: None,
        }
    }

    /// Converts the recording to a trace of a container of `image`.
    pub fn into_trace(self, image: ImageId) -> Trace {
        Trace {
            clock: Clock::from_started(self.started),
            duration_us: self.duration_us,
            end: End::Unknown,
            recorder: format!("import of {} (cvmfs-prefetch {})", self.source, env!("CARGO_PKG_VERSION")),
            blind_spots: self.blind_spots,
            losses: self.losses,
            files: self.files,
            ..Trace::new(image)
        }
    }
}

/// Collects uses; the first of each path counts.
#[derive(Default)]
struct FirstUses {
    seen: HashSet<RootPath>,
    files: Vec<FileUse>,
}

impl FirstUses {
    fn add(&mut self, file: FileUse) -> Result<(), ImportError> {
        if self.seen.contains(&file.path) {
            return Ok(());
        }
        if self.files.len() == MAX_FILES {
            return Err(ImportError::TooLarge { what: "files", limit: MAX_FILES });
        }
        self.seen.insert(file.path.clone());
        self.files.push(file);
        Ok(())
    }
}

/// The use of a file, about which these sources say no more.
fn used(path: RootPath, at_us: u64, size: u64, open_flags: u32, how: Use) -> FileUse {
    FileUse { at_us, size, open_flags, how, ..FileUse::new(path) }
}
