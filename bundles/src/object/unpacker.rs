//! Checking and unpacking piece by piece.

use sha1::{Digest, Sha1};

use super::{BadObject, ContentHash, HashAlgorithm, Inflater};

/// Takes the stored bytes of an object in pieces of any size, and gives its content. Nothing of that may be believed before
/// [`Unpacker::finish`] has said so.
#[derive(Debug)]
pub struct Unpacker {
    hash: ContentHash,
    hasher: Sha1,
    inflater: Inflater,
}

impl Unpacker {
    /// For the object `hash`, whose content must be `raw_size` bytes long.
    pub fn new(hash: ContentHash, raw_size: u64) -> Result<Self, BadObject> {
        if hash.algorithm != HashAlgorithm::Sha1 {
            return Err(BadObject::Unverifiable(hash));
        }
        Ok(Self { hash, hasher: Sha1::new(), inflater: Inflater::new(hash, raw_size) })
    }

    /// Takes the next stored bytes, and gives what they unpack to.
    pub fn feed<E: From<BadObject>>(
        &mut self,
        stored: &[u8],
        take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.hasher.update(stored);
        self.inflater.feed(stored, take)
    }

    /// Whether all that came was the object, and all of it.
    pub fn finish(self) -> Result<(), BadObject> {
        let found = ContentHash::sha1(self.hasher.finalize().into());
        if found != self.hash {
            return Err(BadObject::WrongHash { expected: self.hash, found });
        }
        self.inflater.finish()
    }
}
