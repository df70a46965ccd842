//! What one container used, as a recorder saw it.

use std::path::Path;

use serde::Serialize;

use crate::codec::{BadFile, Format};
use crate::image::ImageId;
use crate::path::RootPath;

/// Trace files: `CPFT`.
pub const FORMAT: Format = Format { name: "trace file", magic: *b"CPFT", major: 1, minor: 0 };

/// One container's use of its root file system, from its first exec to the end of the recording.
#[derive(Debug, Clone, PartialEq, Serialize, bincode::Encode, bincode::Decode)]
pub struct Trace {
    /// The image that ran.
    pub image: ImageId,
    /// When the first exec was seen, in seconds since 1970.
    pub started: u64,
    /// Microseconds from the first exec to the end of the recording.
    pub duration_us: u64,
    /// Why the recording ended.
    pub end: End,
    /// Which recorder and which of its programs made this.
    pub recorder: String,
    /// Events that were lost. A trace that lost any is incomplete.
    pub lost: u64,
    /// Events whose path could not be told (too deep, or not readable). They make a trace incomplete, too.
    pub unresolved: u64,
    /// Regular files of the container's root, in order of first use, each once.
    pub files: Vec<FileUse>,
}

/// Why a recording ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, bincode::Encode, bincode::Decode)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// The container's main process ended with this code.
    Exited(u32),
    /// The time given was up; the container still ran.
    TimeUp,
    /// The recorder was asked to stop.
    Stopped,
    /// The container wrote the line that was waited for.
    Line,
    /// The TCP port that was waited for answered.
    Port(u16),
    /// For the time given, there were fewer new files than given.
    Settled,
}

/// The first use of one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, bincode::Encode, bincode::Decode)]
pub struct FileUse {
    /// Where the file is, seen from inside the container.
    pub path: RootPath,
    /// Microseconds from the first exec.
    pub at_us: u64,
    /// Size in bytes at that moment.
    pub size: u64,
    /// Flags of the open (`O_*` of Linux on x86-64 and arm64); 0 for the other ways of use.
    pub open_flags: u32,
    /// How it was used.
    pub how: Use,
}

/// How a file was first used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, bincode::Encode, bincode::Decode)]
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
}

impl Trace {
    /// Whether every use is in the trace.
    pub fn is_complete(&self) -> bool {
        self.lost == 0 && self.unresolved == 0
    }

    /// Reads a trace file's bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BadFile> {
        FORMAT.unseal(bytes)
    }

    /// The bytes of a trace file.
    pub fn to_bytes(&self) -> Result<Vec<u8>, BadFile> {
        FORMAT.seal(self)
    }

    /// Reads a trace file.
    pub fn read(path: &Path) -> Result<Self, crate::file::FileError> {
        crate::file::read(path, Self::from_bytes)
    }

    /// Writes a trace file, whole or not at all.
    pub fn write(&self, path: &Path) -> Result<(), crate::file::FileError> {
        crate::file::write(path, self.to_bytes())
    }
}
