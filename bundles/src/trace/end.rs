//! Why a recording ended.

use std::fmt;

use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use serde::Serialize;

/// Why a recording ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// The container's main process ended with this code.
    Exited(u32),
    /// The time given was up; the container still ran.
    TimeUp,
    /// The recorder was asked to stop.
    Stopped,
    /// The recorder that this was imported from does not tell.
    NotTold,
    /// The container wrote the line that was waited for.
    Line,
    /// The TCP port that was waited for answered.
    Port(u16),
    /// For the time given, there were fewer new files than given.
    Settled,
    /// The readiness probe that was waited for succeeded.
    Ready,
    /// The file has no end: its recorder was killed, or the file was cut. What there is, is the trace's beginning.
    Unfinished(Cut),
    /// A reason that a newer recorder gives.
    Other(u16),
}

/// Where an unfinished file ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cut {
    /// Behind a whole block: nothing that was flushed is missing.
    BetweenBlocks,
    /// Within a block, which is left out.
    InBlock,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exited with {code}"),
            Self::TimeUp => f.write_str("the time was up"),
            Self::Stopped => f.write_str("stopped by request"),
            Self::NotTold => f.write_str("end not told"),
            Self::Line => f.write_str("the line was seen"),
            Self::Port(port) => write!(f, "port {port} answered"),
            Self::Settled => f.write_str("settled"),
            Self::Ready => f.write_str("ready"),
            Self::Unfinished(Cut::BetweenBlocks) => f.write_str("unfinished: the recorder did not write its end"),
            Self::Unfinished(Cut::InBlock) => f.write_str("unfinished: the file is cut within a block"),
            Self::Other(code) => write!(f, "ended for reason {code}"),
        }
    }
}

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
            Self::Ready => (8, 0),
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
            (8, _) => Self::Ready,
            (code, _) => Self::Other(code),
        })
    }
}

bincode::impl_borrow_decode!(End);
