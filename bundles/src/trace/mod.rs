//! Traces: the files one container used, as a recorder saw it.
//!
//! A running recorder appends to a file with a [`TraceWriter`]; all others read the file as one [`Trace`]. `docs/src/trace-format.md`
//! specifies it:
//!
//! ```text
//! magic, version | head block | block of records | ... | end block
//! ```
//!
//! A file without an end block is a prefix of a trace. It is readable, but never complete.

mod blind_spots;
mod block;
mod clock;
mod command;
mod counts;
mod end;
mod excluded;
mod file_use;
pub mod import;
mod join;
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
mod writer;

use std::path::Path;

use serde::Serialize;

pub use blind_spots::BlindSpots;
pub use clock::Clock;
pub use counts::{Code, Counts};
pub use end::{Cut, End};
pub use excluded::{Excluded, ExcludedReason};
pub use file_use::{FileUse, Use};
pub use losses::{LossCause, Losses};
pub(crate) use paths::{PathNumber, Paths};
pub use phases::Phases;
pub use process::Process;
pub use ranges::{Range, Ranges};
pub(crate) use reader::read as read_numbered;
pub use records::{Head, Tail};
pub use repository::MountedRepository;
pub use writer::{TraceWriter, WriteError};

use crate::codec::{Decode, Encode, Format, FormatError};
use crate::image::ImageId;
use crate::path::RootPath;
use crate::phase::Phase;

/// The format of trace files, `CPFT`.
pub const FORMAT: Format = Format { name: "trace file", magic: *b"CPFT", major: 1, minor: 3 };

/// One container's use of its root file system, from time zero to the end of the recording. Time zero is when
/// the recorder began to follow the container, or the first exec if the recorder sees no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Trace {
    /// The image that ran.
    pub image: ImageId,
    /// Time zero on the machine's clocks.
    #[serde(flatten, serialize_with = "clock::with_started")]
    pub clock: Clock,
    /// Microseconds from time zero to the end of the recording.
    pub duration_us: u64,
    /// Why the recording ended.
    pub end: End,
    /// Recorder and hooks that produced the trace.
    pub recorder: String,
    /// What the recorder cannot see.
    pub blind_spots: BlindSpots,
    /// Lost events. A trace with losses is incomplete.
    pub losses: Losses,
    /// Program and arguments of the container; empty if not recorded.
    pub command: Vec<String>,
    /// Profile that the recording was given; empty if none.
    pub profile: String,
    /// When the phases of the container's life begin.
    pub phases: Phases,
    /// Uses excluded for privacy.
    pub excluded: Excluded,
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
    /// A container of `image` with nothing else known, to be filled in.
    pub fn new(image: ImageId) -> Self {
        Self {
            image,
            clock: Clock::default(),
            duration_us: 0,
            end: End::Unknown,
            recorder: String::new(),
            blind_spots: BlindSpots::default(),
            losses: Losses::default(),
            command: Vec::new(),
            profile: String::new(),
            phases: Phases::default(),
            excluded: Excluded::default(),
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
        let cut = self.end.is_cut().then(|| self.end.to_string());
        let lost = self.losses.by_cause().map(|(cause, count)| format!("{count} events lost: {cause}"));
        let blind_spots = self.blind_spots.missing_uses().names().map(|name| format!("blind spot: {name}"));
        cut.into_iter().chain(lost).chain(blind_spots).collect()
    }

    /// Decodes a trace file, or a prefix of one.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut paths = Paths::default();
        let (trace, files) = reader::read(bytes, &mut paths)?;
        let named = |file: FileUse<PathNumber>| {
            let path = paths.get(file.path);
            file.with_path(path)
        };
        Ok(Self { files: files.into_iter().map(named).collect(), ..trace })
    }

    /// Encodes the trace as the bytes of a trace file. An unfinished trace has no end block.
    pub fn to_bytes(&self) -> Result<Vec<u8>, FormatError> {
        self.encode().map_err(|error| match error {
            WriteError::Format(error) => error,
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
            End::Unfinished(_) => writer.finish_as_prefix(),
            end => {
                let (losses, excluded) = (self.losses.clone(), self.excluded.clone());
                writer.finish(&Tail { end, duration_us: self.duration_us, losses, excluded })
            }
        }
    }

    fn head(&self) -> Head {
        // In a finished trace, a file without ranges was not read, unless ranges are a blind spot. So a trace
        // that lacks the ranges of some file must declare that blind spot.
        let has_all_ranges = matches!(self.end, End::Unfinished(_))
            || self.files.iter().all(|file| file.ranges.is_some() || !file.has_recorded_ranges());
        Head {
            image: self.image.clone(),
            clock: self.clock,
            recorder: self.recorder.clone(),
            blind_spots: if has_all_ranges { self.blind_spots } else { self.blind_spots.and(BlindSpots::RANGES) },
            command: self.command.clone(),
            profile: self.profile.clone(),
        }
    }

    /// Reads a trace file.
    pub fn read(path: &Path) -> Result<Self, crate::file::FileError> {
        crate::file::read(path, Self::from_bytes)
    }

    /// Writes a trace file, completely or not at all.
    pub fn write(&self, path: &Path) -> Result<(), crate::file::FileError> {
        crate::file::write(path, self.to_bytes())
    }
}

/// The first time a path was looked up without success, or a directory was listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Encode, Decode)]
#[bincode(crate = "crate::codec")]
pub struct Lookup {
    /// The path as the container sees it.
    pub path: RootPath,
    /// Microseconds since time zero.
    pub at_us: u64,
    /// The process that did it.
    pub process: Process,
}
