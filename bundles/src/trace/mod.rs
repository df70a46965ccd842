//! What one container used, as a recorder saw it, and the file it is kept in.
//!
//! A recorder that runs appends to a file with a [`TraceWriter`]; everyone else reads it as one [`Trace`]. The file is
//! specified in `docs/src/trace-format.md`:
//!
//! ```text
//! magic, version | head block | block of records | ... | end block
//! ```
//!
//! A file without its end block is a prefix of a trace. It is readable, and never complete.

mod block;
mod clock;
mod command;
mod counts;
mod end;
mod file_use;
pub mod import;
mod join;
mod left_out;
mod lookup;
mod losses;
mod paths;
mod phases;
mod process;
mod ranges;
mod reader;
mod records;
mod repository;
#[cfg(test)]
mod tests;
mod unseen;
mod writer;

use std::path::Path;

use serde::Serialize;

pub use clock::Clock;
pub use counts::{Code, Counts};
pub use end::{Cut, End};
pub use file_use::{FileUse, Use};
pub use left_out::{LeftOut, LeftOutReason};
pub use lookup::Lookup;
pub use losses::{Cause, Losses};
pub(crate) use paths::{PathNumber, Paths};
pub use phases::{Phase, Phases};
pub use process::Process;
pub use ranges::{Range, Ranges};
pub(crate) use reader::read as read_numbered;
pub use records::{Head, Tail};
pub use repository::MountedRepository;
pub use unseen::Unseen;
pub use writer::{TraceWriter, WriteError};

use crate::codec::{BadFile, Format};
use crate::image::ImageId;

/// Trace files: `CPFT`.
pub const FORMAT: Format = Format { name: "trace file", magic: *b"CPFT", major: 1, minor: 2 };

/// One container's use of its root file system, from time zero to the end of the recording. Time zero is when the
/// recorder began to follow the container, or its first exec if that is all it sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Trace {
    /// The image that ran.
    pub image: ImageId,
    /// When time zero was.
    #[serde(flatten, serialize_with = "clock::with_started")]
    pub clock: Clock,
    /// Microseconds from time zero to the end of the recording.
    pub duration_us: u64,
    /// Why the recording ended.
    pub end: End,
    /// Which recorder and which of its programs made this.
    pub recorder: String,
    /// What this recorder cannot see.
    pub unseen: Unseen,
    /// Events that were lost. A trace that lost any is incomplete.
    pub lost: Losses,
    /// Program and arguments of the container; empty if that is not told.
    pub command: Vec<String>,
    /// What kind of work it shows, as was said when it was recorded; empty if nothing was.
    pub profile: String,
    /// Where the parts of the container's life begin.
    pub phases: Phases,
    /// Uses that were left out for privacy.
    pub left_out: LeftOut,
    /// CVMFS repositories that were mounted in the container.
    pub repositories: Vec<MountedRepository>,
    /// Regular files of the container's root, in order of first use, each once.
    pub files: Vec<FileUse>,
    /// Paths that were looked for and do not exist, in order of first use, each once; empty if that is not told.
    pub absent: Vec<Lookup>,
    /// Directories that were listed, in order of first use, each once; empty if that is not told.
    pub directories: Vec<Lookup>,
}

impl Trace {
    /// A container of `image` of which nothing is told, to be filled in.
    pub fn of(image: ImageId) -> Self {
        Self {
            image,
            clock: Clock::default(),
            duration_us: 0,
            end: End::NotTold,
            recorder: String::new(),
            unseen: Unseen::default(),
            lost: Losses::default(),
            command: Vec::new(),
            profile: String::new(),
            phases: Phases::default(),
            left_out: LeftOut::default(),
            repositories: Vec::new(),
            files: Vec::new(),
            absent: Vec::new(),
            directories: Vec::new(),
        }
    }

    /// When time zero was, in seconds since 1970; 0 if that is not known.
    pub fn started(&self) -> u64 {
        self.clock.started()
    }

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
        let mut paths = Paths::default();
        let (trace, files) = reader::read(bytes, &mut paths)?;
        let named = |file: FileUse<PathNumber>| {
            let path = paths.get(file.path);
            file.named(path)
        };
        Ok(Self { files: files.into_iter().map(named).collect(), ..trace })
    }

    /// The bytes of a trace file. An unfinished trace is written as what it is, without an end.
    pub fn to_bytes(&self) -> Result<Vec<u8>, BadFile> {
        self.encode().map_err(|error| match error {
            WriteError::Bad(bad) => bad,
            WriteError::Io(io) => FORMAT.content(io.to_string()),
        })
    }

    fn encode(&self) -> Result<Vec<u8>, WriteError> {
        let mut writer = TraceWriter::new(Vec::new(), &self.head())?;
        writer.phase(Phase::StartUp, self.phases.start_up_us)?;
        self.phases.main_us.map_or(Ok(()), |at_us| writer.phase(Phase::Main, at_us))?;
        self.repositories.iter().try_for_each(|repository| writer.repository(repository))?;
        self.files.iter().try_for_each(|file| writer.file(file))?;
        self.absent.iter().try_for_each(|lookup| writer.absent(lookup))?;
        self.directories.iter().try_for_each(|lookup| writer.directory(lookup))?;
        match self.end {
            End::Unfinished(_) => writer.leave(),
            end => {
                let (lost, left_out) = (self.lost.clone(), self.left_out.clone());
                writer.finish(&Tail { end, duration_us: self.duration_us, lost, left_out })
            }
        }
    }

    fn head(&self) -> Head {
        // In a finished trace a file without ranges was not read, unless the recorder does not tell ranges. So one
        // that does not know those of some file has to say that it does not.
        let told = matches!(self.end, End::Unfinished(_))
            || self.files.iter().all(|file| file.ranges.is_some() || !file.tells_ranges());
        Head {
            image: self.image.clone(),
            clock: self.clock,
            recorder: self.recorder.clone(),
            unseen: if told { self.unseen } else { self.unseen.and(Unseen::RANGES) },
            command: self.command.clone(),
            profile: self.profile.clone(),
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
