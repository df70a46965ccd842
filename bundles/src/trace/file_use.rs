//! Uses of files.

use std::fmt;

use serde::Serialize;

use super::{Process, Ranges};
use crate::codec::{
    self, BorrowDecode, BorrowDecoder, Decode, DecodeError, Decoder, Encode, EncodeError, Encoder, Minor,
};
use crate::path::{PathBytes, RootPath};

/// The first use of one file. `P` is its path, or a number that stands for the path while many traces are
/// read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileUse<P = RootPath> {
    /// Path of the file as the container sees it.
    pub path: P,
    /// Microseconds since time zero.
    pub at_us: u64,
    /// Size in bytes at that moment.
    pub size: u64,
    /// Flags of the open (Linux's `O_*` on x86-64 and arm64); 0 for other uses.
    pub open_flags: u32,
    /// How it was used.
    pub how: Use,
    /// The process that used it.
    pub process: Process,
    /// The container created, truncated or changed the file, then or later: its content is, at least in part,
    /// the container's own.
    pub written: bool,
    /// Ranges that were read while the container ran; `None` if unknown.
    pub ranges: Option<Ranges>,
}

impl<P> FileUse<P> {
    /// An open at time zero, about which nothing else is known.
    pub fn new(path: P) -> Self {
        Self {
            path,
            at_us: 0,
            size: 0,
            open_flags: 0,
            how: Use::Open,
            process: Process::default(),
            written: false,
            ranges: None,
        }
    }

    /// This with another path.
    pub(super) fn with_path<Q>(self, path: Q) -> FileUse<Q> {
        let Self { path: _, at_us, size, open_flags, how, process, written, ranges } = self;
        FileUse { path, at_us, size, open_flags, how, process, written, ranges }
    }

    /// Whether a recorder that records ranges records them for this use. For processes outside the container,
    /// such as hooks, it records opens only.
    pub(super) fn has_recorded_ranges(&self) -> bool {
        self.process.pid != 0
    }

    /// Whether the container needed the image's content of this file. It did not if it wrote the file without reading from it:
    /// what a container reads of a file that it changes is the image's content, copied up.
    pub fn needs_image(&self) -> bool {
        !self.written || self.ranges.as_ref().is_some_and(|ranges| !ranges.is_empty())
    }
}

/// Everything but the ranges, which are known later and have records of their own.
impl<P: Encode> Encode for FileUse<P> {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        let Self { path, at_us, size, open_flags, how, process, written, ranges: _ } = self;
        (path, at_us, size, open_flags, how).encode(encoder)?;
        (written, process).encode(encoder)
    }
}

impl<'de> BorrowDecode<'de, Minor> for FileUse<PathBytes<'de>> {
    fn borrow_decode<D: BorrowDecoder<'de, Context = Minor>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let path = BorrowDecode::borrow_decode(decoder)?;
        let (at_us, size, open_flags, how) = Decode::decode(decoder)?;
        let (written, process) = (codec::added(decoder, 1)?, codec::added(decoder, 1)?);
        Ok(Self { path, at_us, size, open_flags, how, process, written, ranges: None })
    }
}

/// How a file was used first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Use {
    /// Opened by a system call.
    Open,
    /// Executed.
    Exec,
    /// Mapped by the kernel as the interpreter of an ELF file.
    Interpreter,
    /// Mapped, without a recorded open.
    Map,
    /// Read, without a recorded open.
    Read,
    /// A use that only newer recorders know.
    Other(u16),
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open => f.write_str("open"),
            Self::Exec => f.write_str("exec"),
            Self::Interpreter => f.write_str("interpreter"),
            Self::Map => f.write_str("map"),
            Self::Read => f.write_str("read"),
            Self::Other(code) => write!(f, "use {code}"),
        }
    }
}

impl Encode for Use {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        let code: u16 = match self {
            Self::Open => 1,
            Self::Exec => 2,
            Self::Interpreter => 3,
            Self::Map => 4,
            Self::Read => 5,
            Self::Other(code) => *code,
        };
        code.encode(encoder)
    }
}

impl<C> Decode<C> for Use {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Ok(match u16::decode(decoder)? {
            1 => Self::Open,
            2 => Self::Exec,
            3 => Self::Interpreter,
            4 => Self::Map,
            5 => Self::Read,
            code => Self::Other(code),
        })
    }
}
