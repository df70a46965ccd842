//! The envelope of our files, and the only module that knows bincode.
//!
//! ```text
//! offset  size  content
//!      0     4  magic: the kind of file ("CPFB" for a bundle, ...)
//!      4     2  major version, little endian: readers refuse any other
//!      6     2  minor version, little endian: readers accept any
//!      8     8  length of the payload in bytes, little endian
//!     16     n  payload
//!   16+n    32  SHA-256 of everything before
//! ```
//!
//! `docs/src/bundle-format.md` has the compatibility rule. Values of databases use the same envelope: [`Format::seal`] and
//! [`Format::open`]. Trace files are written while they grow, so they share magic and version with this envelope, but have blocks
//! instead of one payload.
//!
//! Types derive [`Encode`] and [`Decode`] from here, with `#[bincode(crate = "bundles::codec")]` (`"crate::codec"` in this crate):
//! so the encoder can be replaced in one place.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use sha2::{Digest, Sha256};

pub use bincode::de::{BorrowDecoder, Decoder};
pub use bincode::enc::Encoder;
pub use bincode::error::{DecodeError, EncodeError};
pub use bincode::{BorrowDecode, Decode, Encode};
pub(crate) use bincode::{
    de::read::{BorrowReader, Reader},
    enc::write::Writer,
    impl_borrow_decode,
};
// The derive macros expand to paths of these modules.
#[doc(hidden)]
pub use bincode::{de, enc, error};

/// Bytes of magic and version, which trace files have, too.
pub(crate) const START: usize = 8;
const HEADER: usize = 16;
const CHECKSUM: usize = 32;

/// Largest payload in bytes. It bounds what a reader allocates for a hostile file.
pub const MAX_PAYLOAD: usize = 256 << 20;

/// How much memory a value read with [`Format::open`] may claim. Larger values need a format of their own.
pub const MAX_VALUE: usize = 64 << 20;

/// `LIMIT` bounds the memory for sizes that the bytes claim.
fn config<const LIMIT: usize>() -> Configuration<LittleEndian, Varint, Limit<LIMIT>> {
    bincode::config::standard().with_limit::<LIMIT>()
}

/// The minor version of the file being decoded, for types that gained fields since its major version began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Minor(pub(crate) u16);

/// A field added by minor version `since`. Older files have its default.
pub(crate) fn added<T, D>(decoder: &mut D, since: u16) -> Result<T, DecodeError>
where
    T: Decode<Minor> + Default,
    D: Decoder<Context = Minor>,
{
    if decoder.context().0 >= since { T::decode(decoder) } else { Ok(T::default()) }
}

/// A string of at most `max` bytes. A longer one allocates nothing.
pub(crate) fn text<D: Decoder>(decoder: &mut D, what: &str, max: usize) -> Result<String, DecodeError> {
    let len = u64::decode(decoder)?;
    let Some(len) = usize::try_from(len).ok().filter(|len| *len <= max) else {
        return Err(DecodeError::OtherString(format!("{what} of {len} bytes is too long: at most {max} are allowed")));
    };
    decoder.claim_bytes_read(len)?;
    let mut bytes = vec![0; len];
    decoder.reader().read(&mut bytes)?;
    String::from_utf8(bytes).map_err(|_| DecodeError::OtherString(format!("{what} is not UTF-8")))
}

/// A list of at most `MAX` values. A longer one is refused before memory is taken for it, because the count is what a file says.
#[derive(Debug)]
pub(crate) struct AtMost<T, const MAX: usize>(pub(crate) Vec<T>);

impl<Context, T: Decode<Context>, const MAX: usize> Decode<Context> for AtMost<T, MAX> {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let mut left = MAX;
        list(decoder, &mut left).map(Self)
    }
}

/// A list of at most `left` values, which are subtracted from `left`.
pub(crate) fn list<T: Decode<D::Context>, D: Decoder>(
    decoder: &mut D,
    left: &mut usize,
) -> Result<Vec<T>, DecodeError> {
    let count = count(decoder, left)?;
    (0..count).map(|_| T::decode(decoder)).collect()
}

/// The number of values that follow: at most `left`, from which it is subtracted.
pub(crate) fn count<D: Decoder>(decoder: &mut D, left: &mut usize) -> Result<usize, DecodeError> {
    let count = u64::decode(decoder)?;
    let rest = usize::try_from(count).ok().and_then(|count| left.checked_sub(count));
    let too_many = || DecodeError::OtherString(format!("a list has {count} entries, at most {left} are allowed here"));
    let rest = rest.ok_or_else(too_many)?;
    Ok(std::mem::replace(left, rest) - rest)
}

/// A kind of file, with the version that this program writes.
#[derive(Debug)]
pub struct Format {
    /// What error messages call such a file.
    pub name: &'static str,
    /// The first four bytes of such a file.
    pub magic: [u8; 4],
    /// Raised when an old reader could misunderstand the file.
    pub major: u16,
    /// Raised when something was added that old readers can ignore.
    pub minor: u16,
}

/// Bytes are not a readable file of the expected kind.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// It is another kind of file.
    #[error("not a {kind}: it does not start with {magic:?}")]
    Magic {
        /// The expected kind of file.
        kind: &'static str,
        /// The magic of that kind.
        magic: String,
    },
    /// It is shorter than its header says.
    #[error("{kind} is truncated: it has {have} of {want} bytes; fetch or build it again")]
    Truncated {
        /// The expected kind of file.
        kind: &'static str,
        /// Bytes found.
        have: u64,
        /// Bytes expected.
        want: u64,
    },
    /// A newer program wrote it.
    #[error(
        "{kind} has format version {found}, newer than this program reads ({known}): upgrade cvmfs-prefetch on this machine"
    )]
    Newer {
        /// The expected kind of file.
        kind: &'static str,
        /// Major version of the file.
        found: u16,
        /// Newest major version that this program reads.
        known: u16,
    },
    /// An older program wrote it, in a format that is no longer read.
    #[error("{kind} has format version {found}, this program reads {known}: build it again with this version")]
    Older {
        /// The expected kind of file.
        kind: &'static str,
        /// Major version of the file.
        found: u16,
        /// Major version that this program reads.
        known: u16,
    },
    /// It is larger than allowed.
    #[error("{kind} has a payload of {size} bytes, at most {MAX_PAYLOAD} are allowed")]
    TooLarge {
        /// The expected kind of file.
        kind: &'static str,
        /// Size of the payload in bytes.
        size: u64,
    },
    /// Some bytes changed.
    #[error("{kind} is damaged: its checksum does not match; fetch or build it again")]
    Checksum {
        /// The expected kind of file.
        kind: &'static str,
    },
    /// The checksum is right, but the content is not.
    #[error("{kind} cannot be decoded: {reason}")]
    Content {
        /// The expected kind of file.
        kind: &'static str,
        /// What is wrong.
        reason: String,
    },
}

impl Format {
    /// The first eight bytes of every file of this kind: magic and version.
    pub(crate) fn start(&self) -> [u8; START] {
        let [m0, m1, m2, m3] = self.magic;
        let ([a0, a1], [i0, i1]) = (self.major.to_le_bytes(), self.minor.to_le_bytes());
        [m0, m1, m2, m3, a0, a1, i0, i1]
    }

    /// Checks the first eight bytes of `file` and returns its minor version.
    pub(crate) fn minor_of(&self, file: &[u8]) -> Result<Minor, FormatError> {
        let kind = self.name;
        if !file.starts_with(&self.magic) {
            return Err(FormatError::Magic { kind, magic: String::from_utf8_lossy(&self.magic).into_owned() });
        }
        let truncated = FormatError::Truncated { kind, have: file.len() as u64, want: START as u64 };
        let [_, _, _, _, a0, a1, i0, i1] = *file.first_chunk::<START>().ok_or(truncated)?;
        let found = u16::from_le_bytes([a0, a1]);
        if found > self.major {
            return Err(FormatError::Newer { kind, found, known: self.major });
        }
        if found < self.major {
            return Err(FormatError::Older { kind, found, known: self.major });
        }
        Ok(Minor(u16::from_le_bytes([i0, i1])))
    }

    /// Encodes a value without an envelope.
    pub(crate) fn encode<T: Encode>(&self, value: &T) -> Result<Vec<u8>, FormatError> {
        bincode::encode_to_vec(value, config::<MAX_PAYLOAD>()).map_err(|e| self.content(e.to_string()))
    }

    /// Decodes a value from the beginning of `bytes`, in a file of version `minor`, and returns how many
    /// bytes it took. The value may claim up to `LIMIT` bytes of memory.
    pub(crate) fn decode<T: Decode<Minor>, const LIMIT: usize>(
        &self,
        bytes: &[u8],
        minor: Minor,
    ) -> Result<(T, usize), FormatError> {
        bincode::decode_from_slice_with_context(bytes, config::<LIMIT>(), minor)
            .map_err(|e| self.content(e.to_string()))
    }

    /// Decodes a value that takes all of `bytes`. Bytes behind it are additions of a newer minor version, and
    /// an error otherwise.
    pub(crate) fn decode_all<T: Decode<Minor>, const LIMIT: usize>(
        &self,
        bytes: &[u8],
        minor: Minor,
    ) -> Result<T, FormatError> {
        self.whole(bytes, minor, self.decode::<T, LIMIT>(bytes, minor)?)
    }

    /// As [`decode_all`](Self::decode_all), for a value that borrows from the bytes.
    pub(crate) fn borrow_all<'a, T: BorrowDecode<'a, Minor>, const LIMIT: usize>(
        &self,
        bytes: &'a [u8],
        minor: Minor,
    ) -> Result<T, FormatError> {
        let decoded = bincode::borrow_decode_from_slice_with_context(bytes, config::<LIMIT>(), minor);
        self.whole(bytes, minor, decoded.map_err(|e| self.content(e.to_string()))?)
    }

    fn whole<T>(&self, bytes: &[u8], minor: Minor, (value, used): (T, usize)) -> Result<T, FormatError> {
        if used == bytes.len() || minor > Minor(self.minor) {
            Ok(value)
        } else {
            Err(self.content(format!("{} bytes are left over", bytes.len() - used)))
        }
    }

    /// Encodes a value and wraps it into an envelope with version and checksum: one value of a database, for example.
    ///
    /// [`open`](Self::open) is the reverse.
    pub fn seal<T: Encode>(&self, value: &T) -> Result<Vec<u8>, FormatError> {
        self.wrap(&self.encode(value)?)
    }

    /// Checks version and checksum of sealed bytes and decodes the value in them. The value may claim up to
    /// [`MAX_VALUE`] bytes of memory, whatever the bytes say.
    pub fn open<T: Decode<Minor>>(&self, bytes: &[u8]) -> Result<T, FormatError> {
        let (payload, minor) = self.unwrap(bytes)?;
        self.decode_all::<T, MAX_VALUE>(payload, minor)
    }

    /// The error of a file of this kind that cannot be decoded.
    pub(crate) fn content(&self, reason: impl Into<String>) -> FormatError {
        FormatError::Content { kind: self.name, reason: reason.into() }
    }

    /// Wraps an encoded payload into the envelope.
    pub fn wrap(&self, payload: &[u8]) -> Result<Vec<u8>, FormatError> {
        if payload.len() > MAX_PAYLOAD {
            return Err(FormatError::TooLarge { kind: self.name, size: payload.len() as u64 });
        }
        let mut file = Vec::with_capacity(HEADER + payload.len() + CHECKSUM);
        file.extend_from_slice(&self.start());
        file.extend_from_slice(&(payload.len() as u64).to_le_bytes());
        file.extend_from_slice(payload);
        let checksum = Sha256::digest(&file);
        file.extend_from_slice(&checksum);
        Ok(file)
    }

    /// Checks the envelope and returns the payload with the file's minor version.
    pub fn unwrap<'a>(&self, file: &'a [u8]) -> Result<(&'a [u8], Minor), FormatError> {
        let kind = self.name;
        let minor = self.minor_of(file)?;
        let truncated = |want: u64| FormatError::Truncated { kind, have: file.len() as u64, want };
        let header = file.first_chunk::<HEADER>().ok_or_else(|| truncated(HEADER as u64))?;
        let [_, _, _, _, _, _, _, _, size @ ..] = *header;
        let size = u64::from_le_bytes(size);
        if size > MAX_PAYLOAD as u64 {
            return Err(FormatError::TooLarge { kind, size });
        }
        let end = HEADER + size as usize;
        if file.len() < end + CHECKSUM {
            return Err(truncated((end + CHECKSUM) as u64));
        }
        if file.len() > end + CHECKSUM || Sha256::digest(&file[..end])[..] != file[end..] {
            return Err(FormatError::Checksum { kind });
        }
        Ok((&file[HEADER..end], minor))
    }
}

/// Values without a format around them, for tests of single types.
#[cfg(test)]
pub(crate) mod plain {
    use super::{Decode, DecodeError, Encode, EncodeError};

    /// The bytes of `value`.
    pub(crate) fn encode<T: Encode>(value: T) -> Result<Vec<u8>, EncodeError> {
        bincode::encode_to_vec(value, bincode::config::standard())
    }

    /// The value at the beginning of `bytes`, and how many of them it took.
    pub(crate) fn decode<T: Decode<()>>(bytes: &[u8]) -> Result<(T, usize), DecodeError> {
        bincode::decode_from_slice(bytes, bincode::config::standard())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTE: Format = Format { name: "note", magic: *b"CPFN", major: 2, minor: 1 };

    fn sealed() -> Vec<u8> {
        NOTE.wrap(&NOTE.encode(&("hello".to_string(), 7u64)).unwrap()).unwrap()
    }

    /// `file` with its checksum corrected.
    fn resealed(mut file: Vec<u8>) -> Vec<u8> {
        file.truncate(file.len() - CHECKSUM);
        let checksum = Sha256::digest(&file);
        file.extend_from_slice(&checksum);
        file
    }

    fn unseal(file: &[u8]) -> Result<(String, u64), FormatError> {
        unseal_as(file)
    }

    fn unseal_as<T: Decode<Minor>>(file: &[u8]) -> Result<T, FormatError> {
        let (payload, minor) = NOTE.unwrap(file)?;
        NOTE.decode_all::<T, MAX_PAYLOAD>(payload, minor)
    }

    #[test]
    fn sealed_values_open_to_the_same_value() {
        assert_eq!(unseal(&sealed()).unwrap(), ("hello".to_string(), 7));
        let value = ("hello".to_string(), 7u64);
        assert_eq!(NOTE.seal(&value).unwrap(), sealed());
        assert_eq!(NOTE.open::<(String, u64)>(&sealed()).unwrap(), value);
    }

    #[test]
    fn open_bounds_the_memory_a_value_claims() {
        let huge = NOTE.wrap(&NOTE.encode(&(MAX_VALUE as u64 + 1)).unwrap()).unwrap();
        assert!(matches!(NOTE.open::<Vec<u8>>(&huge), Err(FormatError::Content { .. })));
    }

    #[test]
    fn truncated_or_changed_files_are_refused() {
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
    fn other_major_versions_are_refused_and_minor_ones_read() {
        let mut newer = sealed();
        newer[4] = 3;
        let message = unseal(&resealed(newer)).unwrap_err().to_string();
        assert!(message.contains("version 3") && message.contains("upgrade"), "{message}");
        let mut older = sealed();
        older[4] = 1;
        let message = unseal(&resealed(older)).unwrap_err().to_string();
        assert!(message.contains("version 1") && message.contains("build it again"), "{message}");
        for version in [0, 9] {
            let mut other = sealed();
            other[6] = version;
            assert!(unseal(&resealed(other)).is_ok());
        }
    }

    #[test]
    fn only_newer_minor_versions_may_add_bytes() {
        let mut file = sealed();
        file.insert(file.len() - CHECKSUM, 9);
        file[8] += 1;
        assert!(matches!(unseal(&resealed(file.clone())), Err(FormatError::Content { .. })));
        file[6] = 2;
        assert!(unseal(&resealed(file)).is_ok());
    }

    #[test]
    fn added_fields_have_defaults_in_older_files() {
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
    fn claimed_sizes_allocate_nothing() {
        let mut file = sealed();
        file[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(matches!(unseal(&file), Err(FormatError::TooLarge { .. })));
        let huge = NOTE.wrap(&NOTE.encode(&u64::MAX).unwrap()).unwrap();
        assert!(unseal_as::<Vec<u8>>(&huge).is_err());
    }
}
