//! The content of blocks.
//!
//! The head block and the end block hold one structure each. A block of records holds records, one after the other: a kind (integer),
//! the length of the body (integer), and the body. Integers and bodies are encoded by [`crate::codec`], as everywhere.

use super::block::MAX_RAW;
use super::command::Command;
use super::{BlindSpots, Clock, End, Excluded, FORMAT, Losses};
use crate::codec::{
    self, BorrowDecode, Decode, DecodeError, Decoder, Encode, EncodeError, Encoder, FormatError, Minor,
};
use crate::image::ImageId;

/// Most records of a trace.
pub(super) const MAX: usize = 4_000_000;

/// How much memory decoding one block may claim. A byte of a block claims at most 8: those of an integer.
const CLAIM: usize = 8 * MAX_RAW;

/// Kind of record: the first use of a file.
pub(super) const FILE: u32 = 1;
/// Kind of record, since version 1.1: the path of a content, which has a number.
pub(super) const CONTENT: u32 = 2;
/// Kind of record, since version 1.1: ranges of a content that were read.
pub(super) const RANGES: u32 = 3;
/// Kind of record, since version 1.1: a CVMFS repository mounted in the container.
pub(super) const REPOSITORY: u32 = 4;
/// Kind of record, since version 1.1: a path that was looked up and does not exist.
pub(super) const ABSENT: u32 = 5;
/// Kind of record, since version 1.1: a directory that was listed.
pub(super) const DIRECTORY: u32 = 6;
/// Kind of record, since version 1.1: the beginning of a phase.
pub(super) const PHASE: u32 = 7;

/// What is known when a recording begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The image that runs.
    pub image: ImageId,
    /// Time zero on the machine's clocks.
    pub clock: Clock,
    /// Recorder and hooks that record.
    pub recorder: String,
    /// What the recorder cannot see.
    pub blind_spots: BlindSpots,
    /// Program and arguments of the container; empty if not recorded. They may contain secrets, so they are
    /// recorded only on request.
    pub command: Vec<String>,
    /// Profile that the recording was given; empty if none.
    pub profile: String,
}

/// Longest profile name in bytes.
const MAX_PROFILE: usize = 1_000;

/// Blind spots of all recorders of version 1.0, which did not know these: time zero was the first exec, and
/// there were no ranges.
const BLIND_SPOTS_OF_1_0: BlindSpots = BlindSpots::SET_UP.and(BlindSpots::RANGES);

impl Encode for Head {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        // The second value is the start in seconds, for readers of version 1.0.
        (&self.image, self.clock.started(), &self.recorder, self.blind_spots).encode(encoder)?;
        (self.clock, Command(self.command.clone()), &self.profile).encode(encoder)
    }
}

impl Decode<Minor> for Head {
    fn decode<D: Decoder<Context = Minor>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let (image, started, recorder, blind_spots): (_, _, _, BlindSpots) = Decode::decode(decoder)?;
        if decoder.context().0 == 0 {
            return Ok(Self {
                image,
                clock: Clock::from_started(started),
                recorder,
                blind_spots: blind_spots.and(BLIND_SPOTS_OF_1_0),
                command: Vec::new(),
                profile: String::new(),
            });
        }
        let (clock, Command(command)) = Decode::decode(decoder)?;
        let profile = match decoder.context().0 {
            0..2 => String::new(),
            _ => codec::text(decoder, "a profile name", MAX_PROFILE)?,
        };
        Ok(Self { image, clock, recorder, blind_spots, command, profile })
    }
}

/// What is known when a recording ends.
#[derive(Debug, Clone, PartialEq, Eq, Encode)]
#[bincode(crate = "crate::codec")]
pub struct Tail {
    /// Why the recording ended.
    pub end: End,
    /// Microseconds from time zero to the end.
    pub duration_us: u64,
    /// Lost events.
    pub losses: Losses,
    /// Uses excluded for privacy.
    pub excluded: Excluded,
}

impl Decode<Minor> for Tail {
    fn decode<D: Decoder<Context = Minor>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let (end, duration_us, losses) = Decode::decode(decoder)?;
        Ok(Self { end, duration_us, losses, excluded: codec::added(decoder, 1)? })
    }
}

/// Appends a record to a block.
pub(super) fn put(block: &mut Vec<u8>, kind: u32, body: &[u8]) -> Result<(), FormatError> {
    block.extend_from_slice(&FORMAT.encode(&(kind, body.len() as u64))?);
    block.extend_from_slice(body);
    Ok(())
}

/// Splits off the first record of a block: kind, body, and the bytes behind it.
pub(super) fn split(block: &[u8]) -> Result<(u32, &[u8], &[u8]), FormatError> {
    let ((kind, len), used) = FORMAT.decode::<(u32, u64), CLAIM>(block, Minor(FORMAT.minor))?;
    let behind = &block[used..];
    match usize::try_from(len).ok().and_then(|len| behind.split_at_checked(len)) {
        Some((body, rest)) => Ok((kind, body, rest)),
        None => Err(FORMAT.content(format!("a record of {len} bytes is truncated to {}", behind.len()))),
    }
}

/// Decodes a body.
pub(super) fn body<T: Decode<Minor>>(bytes: &[u8], minor: Minor) -> Result<T, FormatError> {
    FORMAT.decode_all::<T, CLAIM>(bytes, minor)
}

/// Decodes a body that contains a path, without copying the path.
pub(super) fn borrowed<'a, T: BorrowDecode<'a, Minor>>(bytes: &'a [u8], minor: Minor) -> Result<T, FormatError> {
    FORMAT.borrow_all::<T, CLAIM>(bytes, minor)
}

/// The error of a trace with too many of something.
pub(super) fn too_many(max: usize, what: &str) -> FormatError {
    FORMAT.content(format!("more than {max} {what}"))
}
