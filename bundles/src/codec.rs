//! The envelope of our files, and the one place that knows bincode.
//!
//! ```text
//! offset  size  what
//!      0     4  magic: which kind of file this is ("CPFB" bundle, ...)
//!      4     2  major version, little endian: readers refuse another one
//!      6     2  minor version, little endian: readers accept any
//!      8     8  length of the payload in bytes, little endian
//!     16     n  payload
//!   16+n    32  SHA-256 over all that stands before
//! ```
//!
//! See `docs/src/bundle-format.md` for the compatibility rule. Traces are written while they grow, so they have magic and
//! version in common with this, and behind it the blocks of [`crate::trace`] in place of one payload.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bincode::de::{Decoder, read::Reader};
use bincode::error::DecodeError;
use bincode::{BorrowDecode, Decode, Encode};
use sha2::{Digest, Sha256};

/// Magic and version, which the streaming format of traces has in common.
pub(crate) const START: usize = 8;
const HEADER: usize = 16;
const CHECKSUM: usize = 32;

/// The most bytes a payload may have. It bounds what a reader allocates for a hostile file.
pub const MAX_PAYLOAD: usize = 256 << 20;

/// `LIMIT` bounds what is allocated for sizes that the bytes claim.
fn config<const LIMIT: usize>() -> Configuration<LittleEndian, Varint, Limit<LIMIT>> {
    bincode::config::standard().with_limit::<LIMIT>()
}

/// The minor version of the file that is being decoded, for types that grew since its major version began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Minor(pub(crate) u16);

/// A field that minor version `since` added. In older files it has its default.
pub(crate) fn added<T, D>(decoder: &mut D, since: u16) -> Result<T, DecodeError>
where
    T: Decode<Minor> + Default,
    D: Decoder<Context = Minor>,
{
    if decoder.context().0 >= since { T::decode(decoder) } else { Ok(T::default()) }
}

/// A string of at most `max` bytes. Nothing is allocated for a longer one.
pub(crate) fn text<D: Decoder>(decoder: &mut D, what: &str, max: usize) -> Result<String, DecodeError> {
    let len = u64::decode(decoder)?;
    let Some(len) = usize::try_from(len).ok().filter(|len| *len <= max) else {
        return Err(DecodeError::OtherString(format!("{what} of {len} bytes, at most {max} are allowed")));
    };
    decoder.claim_bytes_read(len)?;
    let mut bytes = vec![0; len];
    decoder.reader().read(&mut bytes)?;
    String::from_utf8(bytes).map_err(|_| DecodeError::OtherString(format!("{what} is not UTF-8")))
}

/// A kind of file: its magic and the version that this program writes.
#[derive(Debug)]
pub struct Format {
    /// What a person calls such a file.
    pub name: &'static str,
    /// The first four bytes.
    pub magic: [u8; 4],
    /// Changed when an old reader could misunderstand the file.
    pub major: u16,
    /// Changed when something was added that old readers may ignore.
    pub minor: u16,
}

/// Why bytes cannot be read as the file they should be.
#[derive(Debug, thiserror::Error)]
pub enum BadFile {
    /// Another kind of file.
    #[error("not a {kind}: it does not start with {magic:?}")]
    Magic {
        /// The kind expected.
        kind: &'static str,
        /// Its magic.
        magic: String,
    },
    /// Shorter than its header says.
    #[error("{kind} is truncated: {have} bytes of {want}; fetch or make it again")]
    Truncated {
        /// The kind expected.
        kind: &'static str,
        /// Bytes there are.
        have: u64,
        /// Bytes there should be.
        want: u64,
    },
    /// Made by a newer program.
    #[error(
        "{kind} has format version {found}, this program reads up to {known}: upgrade cvmfs-prefetch on this machine"
    )]
    Newer {
        /// The kind expected.
        kind: &'static str,
        /// The file's major version.
        found: u16,
        /// The newest major version known here.
        known: u16,
    },
    /// Made by an older program, in a format that is no longer read.
    #[error("{kind} has format version {found}, this program reads {known}: make it again with this version")]
    Older {
        /// The kind expected.
        kind: &'static str,
        /// The file's major version.
        found: u16,
        /// The major version known here.
        known: u16,
    },
    /// Larger than allowed.
    #[error("{kind} has a payload of {size} bytes, at most {MAX_PAYLOAD} are allowed")]
    TooLarge {
        /// The kind expected.
        kind: &'static str,
        /// The payload's size.
        size: u64,
    },
    /// Some byte changed.
    #[error("{kind} is damaged: its checksum does not match; fetch or make it again")]
    Checksum {
        /// The kind expected.
        kind: &'static str,
    },
    /// The checksum is right, the content is not.
    #[error("{kind} cannot be decoded: {why}")]
    Content {
        /// The kind expected.
        kind: &'static str,
        /// What the decoder said.
        why: String,
    },
}

impl Format {
    /// The first eight bytes of every file of this kind: magic and version.
    pub(crate) fn start(&self) -> [u8; START] {
        let [m0, m1, m2, m3] = self.magic;
        let ([a0, a1], [i0, i1]) = (self.major.to_le_bytes(), self.minor.to_le_bytes());
        [m0, m1, m2, m3, a0, a1, i0, i1]
    }

    /// Checks the first eight bytes of `file`, and tells its minor version.
    pub(crate) fn minor_of(&self, file: &[u8]) -> Result<Minor, BadFile> {
        let kind = self.name;
        if !file.starts_with(&self.magic) {
            return Err(BadFile::Magic { kind, magic: String::from_utf8_lossy(&self.magic).into_owned() });
        }
        let truncated = BadFile::Truncated { kind, have: file.len() as u64, want: START as u64 };
        let [_, _, _, _, a0, a1, i0, i1] = *file.first_chunk::<START>().ok_or(truncated)?;
        let found = u16::from_le_bytes([a0, a1]);
        if found > self.major {
            return Err(BadFile::Newer { kind, found, known: self.major });
        }
        if found < self.major {
            return Err(BadFile::Older { kind, found, known: self.major });
        }
        Ok(Minor(u16::from_le_bytes([i0, i1])))
    }

    /// One value's bytes, without an envelope.
    pub(crate) fn encode<T: Encode>(&self, value: &T) -> Result<Vec<u8>, BadFile> {
        bincode::encode_to_vec(value, config::<MAX_PAYLOAD>()).map_err(|e| self.content(e.to_string()))
    }

    /// A value of a file of version `minor`, and how many of the bytes it took. It may claim up to `LIMIT` bytes.
    pub(crate) fn decode<T: Decode<Minor>, const LIMIT: usize>(
        &self,
        bytes: &[u8],
        minor: Minor,
    ) -> Result<(T, usize), BadFile> {
        bincode::decode_from_slice_with_context(bytes, config::<LIMIT>(), minor)
            .map_err(|e| self.content(e.to_string()))
    }

    /// A value that all of the bytes are for. Bytes behind what is known are a newer minor version's additions, and an error
    /// otherwise.
    pub(crate) fn decode_all<T: Decode<Minor>, const LIMIT: usize>(
        &self,
        bytes: &[u8],
        minor: Minor,
    ) -> Result<T, BadFile> {
        self.whole(bytes, minor, self.decode::<T, LIMIT>(bytes, minor)?)
    }

    /// The same for a value that borrows from the bytes.
    pub(crate) fn borrow_all<'a, T: BorrowDecode<'a, Minor>, const LIMIT: usize>(
        &self,
        bytes: &'a [u8],
        minor: Minor,
    ) -> Result<T, BadFile> {
        let decoded = bincode::borrow_decode_from_slice_with_context(bytes, config::<LIMIT>(), minor);
        self.whole(bytes, minor, decoded.map_err(|e| self.content(e.to_string()))?)
    }

    fn whole<T>(&self, bytes: &[u8], minor: Minor, (value, used): (T, usize)) -> Result<T, BadFile> {
        match used == bytes.len() || minor > Minor(self.minor) {
            true => Ok(value),
            false => Err(self.content(format!("{} bytes are left over", bytes.len() - used))),
        }
    }

    /// The error of a file of this kind that cannot be decoded.
    pub(crate) fn content(&self, why: impl Into<String>) -> BadFile {
        BadFile::Content { kind: self.name, why: why.into() }
    }

    /// Puts an encoded payload into an envelope.
    pub fn wrap(&self, payload: &[u8]) -> Result<Vec<u8>, BadFile> {
        if payload.len() > MAX_PAYLOAD {
            return Err(BadFile::TooLarge { kind: self.name, size: payload.len() as u64 });
        }
        let mut file = Vec::with_capacity(HEADER + payload.len() + CHECKSUM);
        file.extend_from_slice(&self.start());
        file.extend_from_slice(&(payload.len() as u64).to_le_bytes());
        file.extend_from_slice(payload);
        let checksum = Sha256::digest(&file);
        file.extend_from_slice(&checksum);
        Ok(file)
    }

    /// Takes a payload out of its envelope, with the file's minor version.
    pub fn unwrap<'a>(&self, file: &'a [u8]) -> Result<(&'a [u8], Minor), BadFile> {
        let kind = self.name;
        let minor = self.minor_of(file)?;
        let truncated = |want: u64| BadFile::Truncated { kind, have: file.len() as u64, want };
        let header = file.first_chunk::<HEADER>().ok_or_else(|| truncated(HEADER as u64))?;
        let [_, _, _, _, _, _, _, _, size @ ..] = *header;
        let size = u64::from_le_bytes(size);
        if size > MAX_PAYLOAD as u64 {
            return Err(BadFile::TooLarge { kind, size });
        }
        let end = HEADER + size as usize;
        if file.len() < end + CHECKSUM {
            return Err(truncated((end + CHECKSUM) as u64));
        }
        if file.len() > end + CHECKSUM || Sha256::digest(&file[..end])[..] != file[end..] {
            return Err(BadFile::Checksum { kind });
        }
        Ok((&file[HEADER..end], minor))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTE: Format = Format { name: "note", magic: *b"CPFN", major: 2, minor: 1 };

    fn sealed() -> Vec<u8> {
        NOTE.wrap(&NOTE.encode(&("hello".to_string(), 7u64)).unwrap()).unwrap()
    }

    /// `file` with a right checksum again.
    fn resealed(mut file: Vec<u8>) -> Vec<u8> {
        file.truncate(file.len() - CHECKSUM);
        let checksum = Sha256::digest(&file);
        file.extend_from_slice(&checksum);
        file
    }

    fn unseal(file: &[u8]) -> Result<(String, u64), BadFile> {
        unseal_as(file)
    }

    fn unseal_as<T: Decode<Minor>>(file: &[u8]) -> Result<T, BadFile> {
        let (payload, minor) = NOTE.unwrap(file)?;
        NOTE.decode_all::<T, MAX_PAYLOAD>(payload, minor)
    }

    #[test]
    fn what_was_sealed_comes_out() {
        assert_eq!(unseal(&sealed()).unwrap(), ("hello".to_string(), 7));
    }

    #[test]
    fn every_cut_and_every_changed_byte_is_refused() {
        let file = sealed();
        for cut in 0..file.len() {
            assert!(unseal(&file[..cut]).is_err(), "cut at {cut}");
        }
        for at in 0..file.len() {
            let mut changed = file.clone();
            changed[at] ^= 0x55;
            assert!(unseal(&changed).is_err(), "byte {at}");
        }
    }

    #[test]
    fn another_major_is_refused_by_name_and_another_minor_is_read() {
        let mut newer = sealed();
        newer[4] = 3;
        let message = unseal(&resealed(newer)).unwrap_err().to_string();
        assert!(message.contains("version 3") && message.contains("upgrade"), "{message}");
        let mut older = sealed();
        older[4] = 1;
        let message = unseal(&resealed(older)).unwrap_err().to_string();
        assert!(message.contains("version 1") && message.contains("make it again"), "{message}");
        for version in [0, 9] {
            let mut other = sealed();
            other[6] = version;
            assert!(unseal(&resealed(other)).is_ok());
        }
    }

    #[test]
    fn additions_are_for_newer_minors_only() {
        let mut file = sealed();
        file.insert(file.len() - CHECKSUM, 9);
        file[8] += 1;
        assert!(matches!(unseal(&resealed(file.clone())), Err(BadFile::Content { .. })));
        file[6] = 2;
        assert!(unseal(&resealed(file)).is_ok());
    }

    #[test]
    fn an_added_field_has_its_default_in_older_files() {
        #[derive(Debug, PartialEq)]
        struct Grown(u64, u64);
        impl Decode<Minor> for Grown {
            fn decode<D: Decoder<Context = Minor>>(decoder: &mut D) -> Result<Self, DecodeError> {
                Ok(Self(u64::decode(decoder)?, added(decoder, 1)?))
            }
        }
        let file = |minor, value: &[u64]| {
            let payload: Vec<u8> = value.iter().flat_map(|number| NOTE.encode(number).unwrap()).collect();
            Format { minor, ..NOTE }.wrap(&payload).unwrap()
        };
        assert_eq!(unseal_as::<Grown>(&file(1, &[3, 4])).unwrap(), Grown(3, 4));
        assert_eq!(unseal_as::<Grown>(&file(0, &[3])).unwrap(), Grown(3, 0));
        for (minor, value) in [(1, &[3][..]), (0, &[3, 4])] {
            assert!(unseal_as::<Grown>(&file(minor, value)).is_err(), "version {minor} with {value:?}");
        }
    }

    #[test]
    fn a_claimed_size_allocates_nothing() {
        let mut file = sealed();
        file[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(matches!(unseal(&file), Err(BadFile::TooLarge { .. })));
        let huge = NOTE.wrap(&NOTE.encode(&u64::MAX).unwrap()).unwrap();
        assert!(unseal_as::<Vec<u8>>(&huge).is_err());
    }
}
