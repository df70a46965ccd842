//! Writing a trace file during a recording.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use super::block::{self, Chain};
use super::join::MAX_RANGES;
use super::records::{self, Head, Tail};
use super::{FORMAT, FileUse, Lookup, MountedRepository, Ranges, phases, repository};
use crate::codec::{Encode, FormatError, MAX_PAYLOAD};
use crate::path::RootPath;
use crate::phase::Phase;

/// Size at which a block is written.
const FULL: usize = 256 << 10;

/// Most ranges per record: they fit into a block, whatever their values.
const RANGES_AT_ONCE: usize = 16_384;

/// A trace cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Writing to the file failed.
    #[error("cannot write the trace: {0}")]
    Io(#[from] io::Error),
    /// The trace exceeds the limits of the format.
    #[error(transparent)]
    Format(#[from] FormatError),
}

/// Writes a trace file, block by block. Everything flushed is readable even if nothing follows: the file is then a prefix, because it has
/// no end block, which only [`TraceWriter::finish`] writes.
///
/// Written records are not kept, so memory use does not depend on the length of the recording. Records may come in any order.
pub struct TraceWriter<W: Write> {
    out: W,
    chain: Chain,
    block: Vec<u8>,
    /// Counts so far, for the limits of the format: a recording should end rather than become unreadable.
    raw: usize,
    records: usize,
    ranges: usize,
    repositories: usize,
    /// Number of the next content without a number of its own. It counts down from the top, where no
    /// recorder's numbers are.
    next_content: u64,
}

impl TraceWriter<File> {
    /// Creates the file, or replaces it. It is a readable prefix from the start.
    pub fn create(path: &Path, head: &Head) -> Result<Self, WriteError> {
        Self::new(File::create(path)?, head)
    }
}

impl<W: Write> TraceWriter<W> {
    /// Writes the head.
    pub fn new(mut out: W, head: &Head) -> Result<Self, WriteError> {
        let start = FORMAT.start();
        let mut chain = Chain::new(start);
        let head = block::seal(&mut chain, block::HEAD, &FORMAT.encode(head)?)?;
        // In one call, so that the file is hardly ever not a trace.
        out.write_all(&[&start[..], &head].concat())?;
        Ok(Self {
            out,
            chain,
            block: Vec::new(),
            raw: 0,
            records: 0,
            ranges: 0,
            repositories: 0,
            next_content: u64::MAX,
        })
    }

    /// Adds the use of a file. The same file may be added again with another time; readers keep the earliest.
    ///
    /// Its ranges are added, too, if known. A recorder that learns them later leaves them out and calls [`content`](Self::content) and
    /// [`ranges`](Self::ranges).
    pub fn file(&mut self, file: &FileUse) -> Result<(), WriteError> {
        self.record(records::FILE, file)?;
        if let Some(ranges) = &file.ranges {
            let id = self.next_content;
            self.next_content -= 1;
            self.content(id, &file.path)?;
            self.ranges(id, ranges)?;
        }
        Ok(())
    }

    /// Adds that the content `id` of the recorder is at `path`. A content may be at several paths (links),
    /// and a path may have several contents (before and after a replacement). Numbers close to `u64::MAX` are
    /// reserved.
    pub fn content(&mut self, id: u64, path: &RootPath) -> Result<(), WriteError> {
        self.record(records::CONTENT, &(id, path))
    }

    /// Adds ranges to those of the content `id`, whose path must be added before the trace is finished.
    pub fn ranges(&mut self, id: u64, ranges: &Ranges) -> Result<(), WriteError> {
        self.ranges += ranges.len();
        if self.ranges > MAX_RANGES {
            return Err(records::too_many(MAX_RANGES, "ranges").into());
        }
        if ranges.len() <= RANGES_AT_ONCE {
            return self.record(records::RANGES, &(id, ranges));
        }
        let read = ranges.read.chunks(RANGES_AT_ONCE).map(|read| Ranges { read: read.to_vec(), ahead: Vec::new() });
        let ahead = ranges.ahead.chunks(RANGES_AT_ONCE).map(|ahead| Ranges { read: Vec::new(), ahead: ahead.to_vec() });
        read.chain(ahead).try_for_each(|part| self.record(records::RANGES, &(id, part)))
    }

    /// Adds a repository mounted in the container.
    pub fn repository(&mut self, mounted: &MountedRepository) -> Result<(), WriteError> {
        self.repositories += 1;
        if self.repositories > repository::MAX {
            return Err(records::too_many(repository::MAX, "repositories").into());
        }
        self.record(records::REPOSITORY, mounted)
    }

    /// Adds a path that was looked up and does not exist. It may be added again; readers keep the earliest.
    pub fn absent(&mut self, lookup: &Lookup) -> Result<(), WriteError> {
        self.record(records::ABSENT, lookup)
    }

    /// Adds a directory that was listed. It may be added again; readers keep the earliest.
    pub fn directory(&mut self, lookup: &Lookup) -> Result<(), WriteError> {
        self.record(records::DIRECTORY, lookup)
    }

    /// Adds that `phase` begins. Set-up begins at time zero and is not written.
    pub fn phase(&mut self, phase: Phase, at_us: u64) -> Result<(), WriteError> {
        phases::code(phase).map_or(Ok(()), |code| self.record(records::PHASE, &(code, at_us)))
    }

    fn record<T: Encode>(&mut self, kind: u32, body: &T) -> Result<(), WriteError> {
        if self.records == records::MAX {
            return Err(records::too_many(records::MAX, "records").into());
        }
        self.records += 1;
        records::put(&mut self.block, kind, &FORMAT.encode(body)?)?;
        if self.block.len() >= FULL { self.flush() } else { Ok(()) }
    }

    /// Writes the records added so far as a block. To be called now and then, not for each file: small blocks
    /// compress badly.
    pub fn flush(&mut self) -> Result<(), WriteError> {
        if !self.block.is_empty() {
            let raw = std::mem::take(&mut self.block);
            self.raw += raw.len();
            if self.raw > MAX_PAYLOAD {
                return Err(FormatError::TooLarge { kind: FORMAT.name, size: self.raw as u64 }.into());
            }
            self.out.write_all(&block::seal(&mut self.chain, block::RECORDS, &raw)?)?;
        }
        Ok(self.out.flush()?)
    }

    /// Writes the end block and returns the file, to be synced and renamed.
    pub fn finish(mut self, tail: &Tail) -> Result<W, WriteError> {
        self.flush()?;
        self.out.write_all(&block::seal(&mut self.chain, block::END, &FORMAT.encode(tail)?)?)?;
        self.out.flush()?;
        Ok(self.out)
    }

    /// The bytes written so far.
    #[cfg(test)]
    pub(super) fn written(&self) -> &W {
        &self.out
    }

    /// Ends the file without an end block: as a prefix.
    pub fn finish_as_prefix(mut self) -> Result<W, WriteError> {
        self.flush()?;
        Ok(self.out)
    }
}
