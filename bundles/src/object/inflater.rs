//! Unpacking piece by piece, in fixed memory however large the object is.

use flate2::{Decompress, FlushDecompress, Status};

use super::{BadObject, ContentHash};

const BUFFER: usize = 256 << 10;

/// Takes stored bytes in pieces of any size, and gives what they unpack to, without a look at their hash: that is for
/// [`Unpacker`](super::Unpacker), or for who checks what comes out.
#[derive(Debug)]
pub struct Inflater {
    hash: ContentHash,
    raw_size: u64,
    inflater: Decompress,
    ended: bool,
    buffer: Vec<u8>,
}

impl Inflater {
    /// For the object called `hash`, whose content must be `raw_size` bytes long.
    pub fn new(hash: ContentHash, raw_size: u64) -> Self {
        Self { hash, raw_size, inflater: Decompress::new(true), ended: false, buffer: vec![0; BUFFER] }
    }

    /// Takes the next stored bytes, and gives what they unpack to: never more than there should be.
    pub fn feed<E: From<BadObject>>(
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

    /// Whether the stream has ended, and where it should.
    pub fn finish(self) -> Result<(), BadObject> {
        if !self.ended {
            return Err(self.wrong_size("the stream does not end".into()));
        }
        if self.inflater.total_out() != self.raw_size {
            return Err(self.wrong_size(format!("it holds {} bytes", self.inflater.total_out())));
        }
        Ok(())
    }

    fn wrong_size(&self, why: String) -> BadObject {
        BadObject::WrongSize { hash: self.hash, expected: self.raw_size, why }
    }
}
