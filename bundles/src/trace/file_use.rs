//! One file that a container used.

use std::fmt;

use bincode::BorrowDecode;
use bincode::de::{BorrowDecoder, Decoder};
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use serde::Serialize;

use super::{Process, Ranges};
use crate::codec::{self, Minor};
use crate::path::{PathBytes, RootPath};

/// The first use of one file, which is named by its path, or by what a reader has in place of that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileUse<P = RootPath> {
    /// Where the file is, seen from inside the container.
    pub path: P,
    /// Microseconds from time zero.
    pub at_us: u64,
    /// Size in bytes at that moment.
    pub size: u64,
    /// Flags of the open (`O_*` of Linux on x86-64 and arm64); 0 for the other ways of use.
    pub open_flags: u32,
    /// How it was used.
    pub how: Use,
    /// Who used it.
    pub process: Process,
    /// The container made, truncated or changed it, now or later; its content is, in part at least, the container's own.
    pub written: bool,
    /// Which parts of it were read while the container ran; `None` if that is not known.
    pub ranges: Option<Ranges>,
}

impl<P> FileUse<P> {
    /// An open at time zero of which nothing more is told, to be filled in.
    pub fn of(path: P) -> Self {
        let (how, process) = (Use::Open, Process::default());
        Self { path, at_us: 0, size: 0, open_flags: 0, how, process, written: false, ranges: None }
    }

    /// The same by another name.
    pub(super) fn named<Q>(self, path: Q) -> FileUse<Q> {
        let Self { path: _, at_us, size, open_flags, how, process, written, ranges } = self;
        FileUse { path, at_us, size, open_flags, how, process, written, ranges }
    }

    /// Whether a recorder that tells ranges tells those of this use. Of processes outside the container, such as hooks, it
    /// sees the opens only.
    pub(super) fn tells_ranges(&self) -> bool {
        self.process.pid != 0
    }

    /// Whether the container needed what the image has at this path. Not so if it wrote the file without having read
    /// anything of it: what was read of a file that the container changes is its image's, copied up.
    pub fn needs_image(&self) -> bool {
        !self.written || self.ranges.as_ref().is_some_and(|ranges| !ranges.is_empty())
    }
}

/// All but the ranges, which are records of their own: they are known only later.
impl<P: bincode::Encode> bincode::Encode for FileUse<P> {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        let Self { path, at_us, size, open_flags, how, process, written, ranges: _ } = self;
        (path, at_us, size, open_flags, how).encode(encoder)?;
        (written, process).encode(encoder)
    }
}

impl<'de> BorrowDecode<'de, Minor> for FileUse<PathBytes<'de>> {
    fn borrow_decode<D: BorrowDecoder<'de, Context = Minor>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let path = BorrowDecode::borrow_decode(decoder)?;
        let (at_us, size, open_flags, how) = bincode::Decode::decode(decoder)?;
        let (written, process) = (codec::added(decoder, 1)?, codec::added(decoder, 1)?);
        Ok(Self { path, at_us, size, open_flags, how, process, written, ranges: None })
    }
}

/// How a file was first used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Use {
    /// Opened by a system call.
    Open,
    /// Executed.
    Exec,
    /// Mapped by the kernel as the interpreter of an ELF file.
    Interpreter,
    /// Mapped, without an open that was seen.
    Map,
    /// Read, without an open that was seen.
    Read,
    /// A way that a newer recorder tells.
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

impl bincode::Encode for Use {
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

impl<C> bincode::Decode<C> for Use {
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
