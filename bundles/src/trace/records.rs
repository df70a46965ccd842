//! What is in the blocks.
//!
//! The head and the end block hold one structure each. A block of records holds records, one behind the other, each of
//! a kind (integer), the length of its body (integer), and the body. Integers and bodies are bincode, as everywhere.

use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};

use super::{End, FORMAT, Losses, Unseen, Use};
use crate::codec::BadFile;
use crate::image::ImageId;

/// The most records a trace may have.
pub(super) const MAX: usize = 4_000_000;

/// A record's kind: the first use of a file.
pub(super) const FILE: u32 = 1;

/// What is known when a recording begins.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Head {
    /// The image that runs.
    pub image: ImageId,
    /// When the first exec was seen, in seconds since 1970; 0 if that is not known.
    pub started: u64,
    /// Which recorder, with which of its programs.
    pub recorder: String,
    /// What this recorder cannot see.
    pub unseen: Unseen,
}

/// What is known when it ends.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Tail {
    /// Why it ended.
    pub end: End,
    /// Microseconds from the first exec to the end.
    pub duration_us: u64,
    /// What was lost.
    pub lost: Losses,
}

/// Appends a record to a block.
pub(super) fn put(block: &mut Vec<u8>, kind: u32, body: &[u8]) -> Result<(), BadFile> {
    block.extend_from_slice(&FORMAT.encode(&(kind, body.len() as u64))?);
    block.extend_from_slice(body);
    Ok(())
}

/// Takes the first record of a block: kind, body, what is behind it.
pub(super) fn take(block: &[u8]) -> Result<(u32, &[u8], &[u8]), BadFile> {
    let ((kind, len), used) = FORMAT.decode::<(u32, u64)>(block)?;
    let behind = &block[used..];
    match usize::try_from(len).ok().and_then(|len| behind.split_at_checked(len)) {
        Some((body, rest)) => Ok((kind, body, rest)),
        None => Err(FORMAT.content(format!("a record of {len} bytes, of which {} are there", behind.len()))),
    }
}

/// Decodes a body. Bytes behind what is known are a newer minor version's additions, and an error otherwise.
pub(super) fn body<T: bincode::Decode<()>>(bytes: &[u8], newer: bool) -> Result<T, BadFile> {
    let (value, used) = FORMAT.decode(bytes)?;
    match used == bytes.len() || newer {
        true => Ok(value),
        false => Err(FORMAT.content(format!("{} bytes are left over", bytes.len() - used))),
    }
}

pub(super) fn too_many() -> BadFile {
    FORMAT.content(format!("more than {MAX} records"))
}

impl bincode::Encode for Use {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        let code: u16 = match self {
            Self::Open => 1,
            Self::Exec => 2,
            Self::Interpreter => 3,
            Self::Map => 4,
            Self::Other(code) => *code,
        };
        code.encode(encoder)
    }
}

impl<C> bincode::Decode<C> for Use {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Ok(match u16::decode(decoder)? {
            1 => Self::Open,
            2 => Self::Exec,
            3 => Self::Interpreter,
            4 => Self::Map,
            code => Self::Other(code),
        })
    }
}

bincode::impl_borrow_decode!(Use);

impl bincode::Encode for End {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        let (code, detail): (u16, u32) = match self {
            Self::Exited(code) => (1, *code),
            Self::TimeUp => (2, 0),
            Self::Stopped => (3, 0),
            Self::NotTold => (4, 0),
            Self::Line => (5, 0),
            Self::Port(port) => (6, u32::from(*port)),
            Self::Settled => (7, 0),
            Self::Other(code) => (*code, 0),
            Self::Unfinished(_) => return Err(EncodeError::Other("an unfinished trace has no end block")),
        };
        (code, detail).encode(encoder)
    }
}

impl<C> bincode::Decode<C> for End {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Ok(match <(u16, u32)>::decode(decoder)? {
            (1, code) => Self::Exited(code),
            (2, _) => Self::TimeUp,
            (3, _) => Self::Stopped,
            (4, _) => Self::NotTold,
            (5, _) => Self::Line,
            (6, port) => Self::Port(u16::try_from(port).map_err(|_| DecodeError::Other("a port above 65535"))?),
            (7, _) => Self::Settled,
            (code, _) => Self::Other(code),
        })
    }
}

bincode::impl_borrow_decode!(End);
