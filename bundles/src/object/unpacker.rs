//! Checking and unpacking piece by piece, in fixed memory however large the object is.

use flate2::{Decompress, FlushDecompress, Status};
use sha1::{Digest, Sha1};

use super::{BadObject, ContentHash, HashAlgorithm};

const BUFFER: usize = 256 << 10;

/// Takes the stored bytes of an object in pieces of any size, and gives its content. Nothing of that may be believed before
/// [`Unpacker::finish`] has said so.
#[derive(Debug)]
pub struct Unpacker {
    hash: ContentHash,
    raw_size: u64,
    hasher: Sha1,
    inflater: Decompress,
    ended: bool,
    buffer: Vec<u8>,
}

impl Unpacker {
    /// For the object `hash`, whose content must be `raw_size` bytes long.
    pub fn new(hash: ContentHash, raw_size: u64) -> Result<Self, BadObject> {
        if hash.algorithm != HashAlgorithm::Sha1 {
            return Err(BadObject::Unverifiable(hash));
        }
        let (hasher, inflater, buffer) = (Sha1::new(), Decompress::new(true), vec![0; BUFFER]);
        Ok(Self { hash, raw_size, hasher, inflater, ended: false, buffer })
    }

    /// Takes the next stored bytes, and gives what they unpack to.
    pub fn feed<E: From<BadObject>>(
        &mut self,
        mut stored: &[u8],
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.hasher.update(stored);
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

    /// Whether all that came was the object, and all of it.
    pub fn finish(self) -> Result<(), BadObject> {
        let found = ContentHash::sha1(self.hasher.clone().finalize().into());
        if found != self.hash {
            return Err(BadObject::WrongHash { expected: self.hash, found });
        }
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
