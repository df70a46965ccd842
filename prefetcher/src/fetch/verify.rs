//! Verifies stored bytes, unpacks them and writes the object to the cache. Everything here blocks and uses the CPU.
//!
//! Small objects are unpacked in one piece; large ones pass through [`Streamed`], which holds only a fixed buffer.

use std::io::Write;

use bundles::bundle::BundleObject;
use bundles::object::{Scratch, Unpacker};

use super::failure::Failure;
use crate::cache::{CacheError, IncomingObject, PosixCache};

/// Verifies a whole object and writes it to the cache.
pub fn put(scratch: &mut Scratch, cache: &PosixCache, object: &BundleObject, stored: &[u8]) -> Result<(), Failure> {
    let raw = scratch.unpack(&object.hash, stored, object.raw_size)?;
    let mut incoming = begin(cache, object)?;
    write(&mut incoming, raw)?;
    Ok(incoming.commit()?)
}

/// An object that is verified, unpacked and written piece by piece. Visible only after [`Streamed::finish`].
pub struct Streamed {
    unpacker: Unpacker,
    incoming: IncomingObject,
}

impl Streamed {
    /// Begins to write an object to `cache`.
    pub fn begin(cache: &PosixCache, object: &BundleObject) -> Result<Self, Failure> {
        Ok(Self { unpacker: Unpacker::new(object.hash, object.raw_size)?, incoming: begin(cache, object)? })
    }

    /// Takes the next stored bytes.
    pub fn feed(&mut self, stored: &[u8]) -> Result<(), Failure> {
        let Self { unpacker, incoming } = self;
        unpacker.feed(stored, |raw| write(incoming, raw))
    }

    /// Verifies hash and size, and makes the object visible.
    pub fn finish(self) -> Result<(), Failure> {
        self.unpacker.finish()?;
        Ok(self.incoming.commit()?)
    }
}

fn begin(cache: &PosixCache, object: &BundleObject) -> Result<IncomingObject, CacheError> {
    cache.begin(&object.hash, object.raw_size, object.path.as_bytes())
}

fn write(incoming: &mut IncomingObject, raw: &[u8]) -> Result<(), Failure> {
    incoming.write_all(raw).map_err(|e| Failure::write(format!("cannot write to the cache: {e}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// What [`Unpacker`] holds at a time.
    const BUFFER: usize = 256 << 10;

    use crate::cache::PosixCache;
    use crate::fetch::failure::Cause;
    use bundles::object::ContentHash;
    use bundles::path::RootPath;

    fn zlib(raw: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(raw).unwrap();
        encoder.finish().unwrap()
    }

    fn object(stored: &[u8], raw_size: u64) -> BundleObject {
        let (hash, path) = (ContentHash::sha1_of(stored), RootPath::new("/x").unwrap());
        let stored_size = stored.len() as u64;
        BundleObject { stored_size, ..BundleObject::file(hash, raw_size, path) }
    }

    fn stream(cache: &PosixCache, object: &BundleObject, stored: &[u8], piece: usize) -> Result<(), Failure> {
        let mut streamed = Streamed::begin(cache, object)?;
        for piece in stored.chunks(piece) {
            streamed.feed(piece)?;
        }
        streamed.finish()
    }

    /// Longer than the buffer, and not too regular.
    fn raw() -> Vec<u8> {
        (0..700_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> (24 - i % 3)) as u8).collect()
    }

    #[test]
    fn streamed_and_whole_objects_are_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let (cache, raw) = (PosixCache::new(dir.path()), raw());
        for (raw, piece) in [(&raw[..], 1 << 20), (&raw[..], 1009), (&raw[..BUFFER], 65536), (b"", 3)] {
            let stored = zlib(raw);
            let object = object(&stored, raw.len() as u64);
            let path = dir.path().join(object.hash.cache_path());
            stream(&cache, &object, &stored, piece).unwrap();
            assert!(std::fs::read(&path).unwrap() == raw);
            std::fs::remove_file(&path).unwrap();
            put(&mut Scratch::default(), &cache, &object, &stored).unwrap();
            assert!(std::fs::read(&path).unwrap() == raw);
        }
    }

    #[test]
    fn wrong_bytes_never_become_visible() {
        let dir = tempfile::tempdir().unwrap();
        let (cache, raw) = (PosixCache::new(dir.path()), raw());
        let (stored, size) = (zlib(&raw), raw.len() as u64);
        let mut flipped = stored.clone();
        flipped[5000] ^= 1;
        let right = object(&stored, size);
        let sized = |raw_size| BundleObject { raw_size, ..right.clone() };
        let longer = [stored.as_slice(), b"x"].concat();
        let cut = &stored[..stored.len() - 1];
        let cases = [
            ("flipped bit", &right, flipped.as_slice()),
            ("cut", &right, cut),
            ("longer", &right, &longer),
            ("right hash, cut stream", &object(cut, size), cut),
            ("right hash, trailing byte", &object(&longer, size), &longer),
            ("right hash, not zlib", &object(&raw, size), &raw),
            ("right hash, less raw bytes", &sized(size + 1), &stored),
            ("right hash, more raw bytes", &sized(size - 1), &stored),
            ("empty", &right, b""),
        ];
        for (case, object, bytes) in cases {
            assert_eq!(stream(&cache, object, bytes, 4096).unwrap_err().cause, Cause::Verification, "{case}");
            if case != "right hash, trailing byte" {
                assert_eq!(
                    put(&mut Scratch::default(), &cache, object, bytes).unwrap_err().cause,
                    Cause::Verification,
                    "{case}"
                );
            }
            assert!(!dir.path().join(object.hash.cache_path()).exists(), "{case}");
        }
        assert_eq!(std::fs::read_dir(dir.path().join("txn")).unwrap().count(), 0);
    }
}
