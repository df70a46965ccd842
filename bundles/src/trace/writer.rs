//! Writing a trace file while the recording runs.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use super::block::{self, Chain};
use super::records::{self, Head, Tail};
use super::{FORMAT, FileUse};
use crate::codec::BadFile;

/// A block is written when it has grown to this.
const FULL: usize = 256 << 10;

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
pub struct TraceWriter<W: Write> {
    out: W,
    chain: Chain,
    block: Vec<u8>,
    records: usize,
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
        Ok(Self { out, chain, block: Vec::new(), records: 0 })
    }

    /// Adds the use of a file. A file may come again with an earlier time; readers keep the earliest.
    pub fn file(&mut self, file: &FileUse) -> Result<(), WriteError> {
        if self.records == records::MAX {
            return Err(records::too_many().into());
        }
        self.records += 1;
        records::put(&mut self.block, records::FILE, &FORMAT.encode(file)?)?;
        if self.block.len() >= FULL { self.flush() } else { Ok(()) }
    }

    /// Writes what was added so far, as a block of its own. Do it now and then, not for each file: small blocks
    /// compress badly.
    pub fn flush(&mut self) -> Result<(), WriteError> {
        if !self.block.is_empty() {
            let raw = std::mem::take(&mut self.block);
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

    /// Writes `raw` as a block of `kind`, whatever is in it. For fuzz targets.
    #[doc(hidden)]
    pub fn block(&mut self, kind: u8, raw: &[u8]) -> Result<(), WriteError> {
        Ok(self.out.write_all(&block::seal(&mut self.chain, kind, raw)?)?)
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
