//! Why recordings end.

use std::fmt;

use serde::Serialize;

use crate::codec::{Decode, DecodeError, Decoder, Encode, EncodeError, Encoder, impl_borrow_decode};

/// Why a recording ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// The main process of the container exited with this code.
    Exited(u32),
    /// The time limit was reached while the container was running.
    Timeout,
    /// The recorder was stopped on request.
    Stopped,
    /// Unknown: the recorder that the trace was imported from does not say.
    Unknown,
    /// The container logged the expected line.
    LogLine,
    /// The expected TCP port accepted a connection.
    Port(u16),
    /// The service settled: it opened fewer new files than given within the time given.
    Settled,
    /// The readiness probe succeeded.
    Ready,
    /// The recording was cut short: the container was running and no condition held, or the recorder could not find out any more.
    CutShort,
    /// The file has no end block: the recorder was killed, or the file was truncated. It holds the beginning
    /// of the trace.
    Unfinished(Cut),
    /// A reason that only newer recorders know.
    Other(u16),
}

/// Where an unfinished file ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cut {
    /// After a complete block: nothing that was flushed is missing.
    BetweenBlocks,
    /// Within a block, which is ignored.
    InBlock,
}

impl End {
    /// Whether the trace may lack uses because of the way in which its recording ended. A reason that only newer recorders know may
    /// be such a way.
    pub fn is_cut(self) -> bool {
        matches!(self, Self::CutShort | Self::Unfinished(_) | Self::Other(_))
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exited with {code}"),
            Self::Timeout => f.write_str("time limit reached"),
            Self::Stopped => f.write_str("stopped by request"),
            Self::Unknown => f.write_str("end unknown"),
            Self::LogLine => f.write_str("expected line logged"),
            Self::Port(port) => write!(f, "port {port} answered"),
            Self::Settled => f.write_str("settled"),
            Self::Ready => f.write_str("ready"),
            Self::CutShort => f.write_str("cut short while the container was running"),
            Self::Unfinished(Cut::BetweenBlocks) => f.write_str("unfinished: the recorder did not write an end block"),
            Self::Unfinished(Cut::InBlock) => f.write_str("unfinished: the file ends within a block"),
            Self::Other(code) => write!(f, "ended for reason {code}"),
        }
    }
}

impl Encode for End {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        let (code, detail): (u16, u32) = match self {
            Self::Exited(code) => (1, *code),
            Self::Timeout => (2, 0),
            Self::Stopped => (3, 0),
            Self::Unknown => (4, 0),
            Self::LogLine => (5, 0),
            Self::Port(port) => (6, u32::from(*port)),
            Self::Settled => (7, 0),
            Self::Ready => (8, 0),
            Self::CutShort => (9, 0),
            Self::Other(code) => (*code, 0),
            Self::Unfinished(_) => return Err(EncodeError::Other("an unfinished trace has no end block")),
        };
        (code, detail).encode(encoder)
    }
}

impl<C> Decode<C> for End {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Ok(match <(u16, u32)>::decode(decoder)? {
            (1, code) => Self::Exited(code),
            (2, _) => Self::Timeout,
            (3, _) => Self::Stopped,
            (4, _) => Self::Unknown,
            (5, _) => Self::LogLine,
            (6, port) => Self::Port(u16::try_from(port).map_err(|_| DecodeError::Other("a port is above 65535"))?),
            (7, _) => Self::Settled,
            (8, _) => Self::Ready,
            (9, _) => Self::CutShort,
            (code, _) => Self::Other(code),
        })
    }
}

impl_borrow_decode!(End);
