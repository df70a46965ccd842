//! What is in the blocks.
//!
//! The head and the end block hold one structure each. A block of records holds records, one behind the other, each of
//! a kind (integer), the length of its body (integer), and the body. Integers and bodies are bincode, as everywhere.

use bincode::BorrowDecode;
use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};

use super::block::MAX_RAW;
use super::command::Command;
use super::{Clock, End, FORMAT, LeftOut, Losses, Unseen};
use crate::codec::{self, BadFile, Minor};
use crate::image::ImageId;

/// The most records a trace may have.
pub(super) const MAX: usize = 4_000_000;

/// The most that decoding one block may claim. A byte of a block claims 8 at most: those of an integer.
const CLAIM: usize = 8 * MAX_RAW;

/// A record's kind: the first use of a file.
pub(super) const FILE: u32 = 1;
/// Since version 1.1: the path of a content, which has a number.
pub(super) const CONTENT: u32 = 2;
/// Since version 1.1: parts of a content that were read.
pub(super) const RANGES: u32 = 3;
/// Since version 1.1: a CVMFS repository in the container.
pub(super) const REPOSITORY: u32 = 4;
/// Since version 1.1: a path that was looked for in vain.
pub(super) const ABSENT: u32 = 5;
/// Since version 1.1: a directory that was listed.
pub(super) const DIRECTORY: u32 = 6;
/// Since version 1.1: the beginning of a phase.
pub(super) const PHASE: u32 = 7;

/// What is known when a recording begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The image that runs.
    pub image: ImageId,
    /// When time zero was.
    pub clock: Clock,
    /// Which recorder, with which of its programs.
    pub recorder: String,
    /// What this recorder cannot see.
    pub unseen: Unseen,
    /// Program and arguments of the container; empty if that is not told. It may hold secrets, so it is told only if
    /// that was asked for.
    pub command: Vec<String>,
    /// What kind of work it shows, as was said; empty if nothing was.
    pub profile: String,
}

/// The longest name of a profile, in bytes.
const MAX_PROFILE: usize = 1_000;

/// What was not known to version 1.0 as something to see: it had time zero at the first exec, and no ranges.
const UNSEEN_BY_1_0: Unseen = Unseen::SET_UP.and(Unseen::RANGES);

impl bincode::Encode for Head {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        // The second number is the clock's, in seconds, for readers of version 1.0.
        (&self.image, self.clock.started(), &self.recorder, self.unseen).encode(encoder)?;
        (self.clock, Command(self.command.clone()), &self.profile).encode(encoder)
    }
}

impl bincode::Decode<Minor> for Head {
    fn decode<D: Decoder<Context = Minor>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let (image, started, recorder, unseen): (_, _, _, Unseen) = bincode::Decode::decode(decoder)?;
        if decoder.context().0 == 0 {
            let (clock, unseen) = (Clock::from_started(started), unseen.and(UNSEEN_BY_1_0));
            return Ok(Self { image, clock, recorder, unseen, command: Vec::new(), profile: String::new() });
        }
        let (clock, Command(command)) = bincode::Decode::decode(decoder)?;
        let profile = match decoder.context().0 {
            0..2 => String::new(),
            _ => codec::text(decoder, "a profile", MAX_PROFILE)?,
        };
        Ok(Self { image, clock, recorder, unseen, command, profile })
    }
}

/// What is known when it ends.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode)]
pub struct Tail {
    /// Why it ended.
    pub end: End,
    /// Microseconds from time zero to the end.
    pub duration_us: u64,
    /// What was lost.
    pub lost: Losses,
    /// What was left out for privacy.
    pub left_out: LeftOut,
}

impl bincode::Decode<Minor> for Tail {
    fn decode<D: Decoder<Context = Minor>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let (end, duration_us, lost) = bincode::Decode::decode(decoder)?;
        Ok(Self { end, duration_us, lost, left_out: codec::added(decoder, 1)? })
    }
}

/// Appends a record to a block.
pub(super) fn put(block: &mut Vec<u8>, kind: u32, body: &[u8]) -> Result<(), BadFile> {
    block.extend_from_slice(&FORMAT.encode(&(kind, body.len() as u64))?);
    block.extend_from_slice(body);
    Ok(())
}

/// Takes the first record of a block: kind, body, what is behind it.
pub(super) fn take(block: &[u8]) -> Result<(u32, &[u8], &[u8]), BadFile> {
    let ((kind, len), used) = FORMAT.decode::<(u32, u64), CLAIM>(block, Minor(FORMAT.minor))?;
    let behind = &block[used..];
    match usize::try_from(len).ok().and_then(|len| behind.split_at_checked(len)) {
        Some((body, rest)) => Ok((kind, body, rest)),
        None => Err(FORMAT.content(format!("a record of {len} bytes, of which {} are there", behind.len()))),
    }
}

/// Decodes a body.
pub(super) fn body<T: bincode::Decode<Minor>>(bytes: &[u8], minor: Minor) -> Result<T, BadFile> {
    FORMAT.decode_all::<T, CLAIM>(bytes, minor)
}

/// Decodes a body that names a path, without a copy of that.
pub(super) fn borrowed<'a, T: BorrowDecode<'a, Minor>>(bytes: &'a [u8], minor: Minor) -> Result<T, BadFile> {
    FORMAT.borrow_all::<T, CLAIM>(bytes, minor)
}

/// The error of a trace with too much of something.
pub(super) fn too_many(max: usize, what: &str) -> BadFile {
    FORMAT.content(format!("more than {max} {what}"))
}
