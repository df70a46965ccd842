//! What one container used, as a recorder saw it, and the file it is kept in.
//!
//! A recorder that runs appends to a file with a [`TraceWriter`]; everyone else reads it as one [`Trace`]. The file is
//! specified in `docs/trace-format.md`:
//!
//! ```text
//! magic, version | head block | block of records | ... | end block
//! ```
//!
//! A file without its end block is a prefix of a trace. It is readable, and never complete.

mod block;
pub mod import;
mod losses;
mod reader;
mod records;
#[cfg(test)]
mod tests;
mod writer;

use std::fmt;
use std::path::Path;

use serde::Serialize;

pub use losses::{Cause, Losses, Unseen};
pub use records::{Head, Tail};
pub use writer::{TraceWriter, WriteError};

use crate::codec::{BadFile, Format};
use crate::image::ImageId;
use crate::path::RootPath;

/// Trace files: `CPFT`.
pub const FORMAT: Format = Format { name: "trace file", magic: *b"CPFT", major: 1, minor: 0 };

/// One container's use of its root file system, from its first exec to the end of the recording.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Trace {
    /// The image that ran.
    pub image: ImageId,
    /// When the first exec was seen, in seconds since 1970; 0 if that is not known.
    pub started: u64,
    /// Microseconds from the first exec to the end of the recording.
    pub duration_us: u64,
    /// Why the recording ended.
    pub end: End,
    /// Which recorder and which of its programs made this.
    pub recorder: String,
    /// What this recorder cannot see.
    pub unseen: Unseen,
    /// Events that were lost. A trace that lost any is incomplete.
    pub lost: Losses,
    /// Regular files of the container's root, in order of first use, each once.
    pub files: Vec<FileUse>,
}

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
            Self::Other(code) => write!(f, "use {code}"),
        }
    }
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
            Self::Unfinished(Cut::BetweenBlocks) => f.write_str("unfinished: the recorder did not write its end"),
            Self::Unfinished(Cut::InBlock) => f.write_str("unfinished: the file is cut within a block"),
            Self::Other(code) => write!(f, "ended for reason {code}"),
        }
    }
}

impl Trace {
    /// Whether every use is in the trace.
    pub fn is_complete(&self) -> bool {
        self.faults().is_empty()
    }

    /// Why uses may be missing, in words; nothing if the trace is complete.
    pub fn faults(&self) -> Vec<String> {
        let unfinished = matches!(self.end, End::Unfinished(_)).then(|| self.end.to_string());
        let lost = self.lost.by_cause().map(|(cause, count)| format!("{count} events lost: {cause}"));
        let unseen = self.unseen.uses().names().map(|name| format!("not seen: {name}"));
        unfinished.into_iter().chain(lost).chain(unseen).collect()
    }

    /// Reads a trace file's bytes, or those of a prefix of one.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BadFile> {
        reader::read(bytes)
    }

    /// The bytes of a trace file. An unfinished trace is written as what it is, without an end.
    pub fn to_bytes(&self) -> Result<Vec<u8>, BadFile> {
        self.encode().map_err(|error| match error {
            WriteError::Bad(bad) => bad,
            WriteError::Io(io) => FORMAT.content(io.to_string()),
        })
    }

    fn encode(&self) -> Result<Vec<u8>, WriteError> {
        let head = Head {
            image: self.image.clone(),
            started: self.started,
            recorder: self.recorder.clone(),
            unseen: self.unseen,
        };
        let mut writer = TraceWriter::new(Vec::new(), &head)?;
        self.files.iter().try_for_each(|file| writer.file(file))?;
        match self.end {
            End::Unfinished(_) => writer.leave(),
            end => writer.finish(&Tail { end, duration_us: self.duration_us, lost: self.lost.clone() }),
        }
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
