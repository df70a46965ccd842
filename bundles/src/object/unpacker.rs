//! Verifying and decompressing piece by piece.

use sha1::{Digest, Sha1};

use super::{ContentHash, HashAlgorithm, Inflater, ObjectError};

/// Verifies and decompresses an object that arrives in pieces of any size. Its output must not be used before
/// [`Unpacker::finish`] has succeeded.
#[derive(Debug)]
pub struct Unpacker {
    hash: ContentHash,
    hasher: Sha1,
    inflater: Inflater,
}

impl Unpacker {
    /// For the object `hash`, whose content must be `raw_size` bytes long.
    pub fn new(hash: ContentHash, raw_size: u64) -> Result<Self, ObjectError> {
        if hash.algorithm != HashAlgorithm::Sha1 {
            return Err(ObjectError::Unverifiable(hash));
        }
        Ok(Self { hash, hasher: Sha1::new(), inflater: Inflater::new(hash, raw_size) })
    }

    /// Decompresses the next stored bytes and passes the result to `take`.
    pub fn feed<E: From<ObjectError>>(
        &mut self,
        stored: &[u8],
        take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.hasher.update(stored);
        self.inflater.feed(stored, take)
    }

    /// Checks that the object is complete and has the right hash.
    pub fn finish(self) -> Result<(), ObjectError> {
        let found = ContentHash::sha1(self.hasher.finalize().into());
        if found != self.hash {
            return Err(ObjectError::WrongHash { expected: self.hash, found });
        }
        self.inflater.finish()
    }
}
