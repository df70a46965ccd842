//! Decompressing piece by piece, in constant memory.

use flate2::{Decompress, FlushDecompress, Status};

use super::{ContentHash, ObjectError};

const BUFFER: usize = 256 << 10;

/// Decompresses an object that arrives in pieces of any size. It does not verify the hash: use
/// [`Unpacker`](super::Unpacker) for that, or verify the result.
#[derive(Debug)]
pub struct Inflater {
    hash: ContentHash,
    raw_size: u64,
    inflater: Decompress,
    ended: bool,
    buffer: Vec<u8>,
}

impl Inflater {
    /// For the object `hash`, whose content must be `raw_size` bytes long.
    pub fn new(hash: ContentHash, raw_size: u64) -> Self {
        Self { hash, raw_size, inflater: Decompress::new(true), ended: false, buffer: vec![0; BUFFER] }
    }

    /// Decompresses the next stored bytes and passes the result to `take`, never more than `raw_size` bytes
    /// in all.
    pub fn feed<E: From<ObjectError>>(
        &mut self,
        mut stored: &[u8],
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        while !self.ended {
            let (read, written) = (self.inflater.total_in(), self.inflater.total_out());
            let status = self
                .inflater
                .decompress(stored, &mut self.buffer, FlushDecompress::None)
                .map_err(|e| self.wrong_size(e.to_string()))?;
            let read = (self.inflater.total_in() - read) as usize;
            let written = (self.inflater.total_out() - written) as usize;
            if self.inflater.total_out() > self.raw_size {
                return Err(self.wrong_size("it holds more".into()).into());
            }
            take(&self.buffer[..written])?;
            stored = &stored[read..];
            self.ended = status == Status::StreamEnd;
            if read == 0 && written == 0 {
                break;
            }
        }
        if self.ended && !stored.is_empty() {
            return Err(self.wrong_size("bytes follow its end".into()).into());
        }
        Ok(())
    }

    /// Checks that the stream is complete and has the expected size.
    pub fn finish(self) -> Result<(), ObjectError> {
        if !self.ended {
            return Err(self.wrong_size("the stream does not end".into()));
        }
        if self.inflater.total_out() != self.raw_size {
            return Err(self.wrong_size(format!("it holds {} bytes", self.inflater.total_out())));
        }
        Ok(())
    }

    fn wrong_size(&self, reason: String) -> ObjectError {
        ObjectError::WrongSize { hash: self.hash, expected: self.raw_size, reason }
    }
}
