//! Writing a trace file while the recording runs.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use super::block::{self, Chain};
use super::join::MAX_RANGES;
use super::records::{self, Head, Tail};
use super::{FORMAT, FileUse, Lookup, MountedRepository, Phase, Ranges, phases, repository};
use crate::codec::{BadFile, MAX_PAYLOAD};
use crate::path::RootPath;

/// A block is written when it has grown to this.
const FULL: usize = 256 << 10;

/// The most ranges that are written as one record: a block has room for them, whatever their numbers.
const RANGES_AT_ONCE: usize = 16_384;

/// A trace could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The operating system refused.
    #[error("cannot write the trace: {0}")]
    Io(#[from] io::Error),
    /// It holds what a trace file cannot hold.
    #[error(transparent)]
    Bad(#[from] BadFile),
}

/// Appends to a trace file. What was flushed is readable even if nothing more comes: the file is then a prefix, and
/// says so by having no end block. Only [`TraceWriter::finish`] writes that.
///
/// It keeps nothing of what it wrote, so its size does not depend on how much that is. Records may come in any order.
pub struct TraceWriter<W: Write> {
    out: W,
    chain: Chain,
    block: Vec<u8>,
    /// What there is so far, for the limits of the format: a recording should end rather than not be readable.
    raw: usize,
    records: usize,
    ranges: usize,
    repositories: usize,
    /// The number of the next content that has none of its own. From the top downwards, where no recorder's are.
    next_content: u64,
}

impl TraceWriter<File> {
    /// Makes a file, which is a readable prefix from the first moment on. An existing file is replaced.
    pub fn create(path: &Path, head: &Head) -> Result<Self, WriteError> {
        Self::new(File::create(path)?, head)
    }
}

impl<W: Write> TraceWriter<W> {
    /// Writes what is known at the start.
    pub fn new(mut out: W, head: &Head) -> Result<Self, WriteError> {
        let start = FORMAT.start();
        let mut chain = Chain::new(start);
        let head = block::seal(&mut chain, block::HEAD, &FORMAT.encode(head)?)?;
        // In one call, so that there is hardly a moment in which the file is no trace.
        out.write_all(&[&start[..], &head].concat())?;
        let (raw, records, ranges, repositories) = (0, 0, 0, 0);
        Ok(Self { out, chain, block: Vec::new(), raw, records, ranges, repositories, next_content: u64::MAX })
    }

    /// Adds the use of a file. A file may come again with an earlier time; readers keep the earliest.
    ///
    /// If its ranges are there they are added, too. A recorder that learns them later leaves them out here, and tells
    /// [`content`](Self::content) and [`ranges`](Self::ranges).
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

    /// Adds that the content which the recorder knows as `id` is at `path`. A content may be at several paths (links),
    /// and there may be several at one (before and after it was replaced). Numbers close to `u64::MAX` are not free.
    pub fn content(&mut self, id: u64, path: &RootPath) -> Result<(), WriteError> {
        self.record(records::CONTENT, &(id, path))
    }

    /// Adds ranges to those of the content `id`, whose path must be told before the trace is finished.
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

    /// Adds a repository that is mounted in the container.
    pub fn repository(&mut self, mounted: &MountedRepository) -> Result<(), WriteError> {
        self.repositories += 1;
        if self.repositories > repository::MAX {
            return Err(records::too_many(repository::MAX, "repositories").into());
        }
        self.record(records::REPOSITORY, mounted)
    }

    /// Adds a path that was looked for in vain. It may come again; readers keep the earliest.
    pub fn absent(&mut self, lookup: &Lookup) -> Result<(), WriteError> {
        self.record(records::ABSENT, lookup)
    }

    /// Adds a directory that was listed. It may come again; readers keep the earliest.
    pub fn directory(&mut self, lookup: &Lookup) -> Result<(), WriteError> {
        self.record(records::DIRECTORY, lookup)
    }

    /// Adds that `phase` begins. Set-up begins at time zero, and is not written.
    pub fn phase(&mut self, phase: Phase, at_us: u64) -> Result<(), WriteError> {
        phases::code(phase).map_or(Ok(()), |code| self.record(records::PHASE, &(code, at_us)))
    }

    fn record<T: bincode::Encode>(&mut self, kind: u32, body: &T) -> Result<(), WriteError> {
        if self.records == records::MAX {
            return Err(records::too_many(records::MAX, "records").into());
        }
        self.records += 1;
        records::put(&mut self.block, kind, &FORMAT.encode(body)?)?;
        if self.block.len() >= FULL { self.flush() } else { Ok(()) }
    }

    /// Writes what was added so far, as a block of its own. Do it now and then, not for each file: small blocks
    /// compress badly.
    pub fn flush(&mut self) -> Result<(), WriteError> {
        if !self.block.is_empty() {
            let raw = std::mem::take(&mut self.block);
            self.raw += raw.len();
            if self.raw > MAX_PAYLOAD {
                return Err(BadFile::TooLarge { kind: FORMAT.name, size: self.raw as u64 }.into());
            }
            self.out.write_all(&block::seal(&mut self.chain, block::RECORDS, &raw)?)?;
        }
        Ok(self.out.flush()?)
    }

    /// Ends the trace. The file is handed back, to be synced and renamed.
    pub fn finish(mut self, tail: &Tail) -> Result<W, WriteError> {
        self.flush()?;
        self.out.write_all(&block::seal(&mut self.chain, block::END, &FORMAT.encode(tail)?)?)?;
        self.out.flush()?;
        Ok(self.out)
    }

    /// What was written so far.
    #[cfg(test)]
    pub(super) fn written(&self) -> &W {
        &self.out
    }

    /// Leaves the trace without its end: a prefix.
    pub fn leave(mut self) -> Result<W, WriteError> {
        self.flush()?;
        Ok(self.out)
    }
}
