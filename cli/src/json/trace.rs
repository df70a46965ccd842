//! Results of `record`, `watch` and `trace`.

use std::collections::BTreeMap;
use std::path::Path;

use bundles::phase::Phase;
use bundles::trace::Trace;
use serde::Serialize;

use super::Image;

/// A trace that was recorded: `record`.
#[derive(Debug, Serialize)]
pub(crate) struct RecordedTrace {
    /// Path of the trace.
    pub(crate) trace: String,
    pub(crate) image: Image,
    pub(crate) complete: bool,
    /// Why the trace is not complete.
    pub(crate) faults: Vec<String>,
    /// What ended the recording.
    pub(crate) end: String,
    pub(crate) duration_us: u64,
    pub(crate) files: usize,
    /// Sizes of the files.
    pub(crate) bytes: u64,
    pub(crate) lost_events: u64,
}

impl RecordedTrace {
    pub(crate) fn new(path: &Path, trace: &Trace) -> Self {
        Self {
            trace: path.display().to_string(),
            image: (&trace.image).into(),
            complete: trace.is_complete(),
            faults: trace.faults(),
            end: trace.end.to_string(),
            duration_us: trace.duration_us,
            files: trace.files.len(),
            bytes: trace.files.iter().fold(0, |sum, file| sum.saturating_add(file.size)),
            lost_events: trace.losses.total(),
        }
    }
}

/// A trace of a container of this node: one line of `watch`.
#[derive(Debug, Serialize)]
pub(crate) struct WatchedTrace {
    pub(crate) namespace: String,
    pub(crate) pod: String,
    pub(crate) container: String,
    #[serde(flatten)]
    pub(crate) recorded: RecordedTrace,
}

/// A trace made from another program's recording: `trace import`.
#[derive(Debug, Serialize)]
pub(crate) struct ImportedTrace {
    /// Path of the trace.
    pub(crate) trace: String,
    pub(crate) image: Image,
    pub(crate) files: usize,
    pub(crate) complete: bool,
    pub(crate) faults: Vec<String>,
}

/// Figures of a trace: `trace stats`.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct TraceStats {
    pub(crate) complete: bool,
    pub(crate) total: FileSum,
    /// Files that the container wrote.
    pub(crate) written_files: usize,
    /// By the phase of the first use.
    pub(crate) by_phase: BTreeMap<Phase, FileSum>,
    /// By the kind of the first use.
    pub(crate) by_use: BTreeMap<String, FileSum>,
    /// By the name of the process that used the file first; empty if the recorder does not know it.
    pub(crate) by_process: BTreeMap<String, FileSum>,
    /// By the first component of the path.
    pub(crate) by_directory: BTreeMap<String, FileSum>,
    pub(crate) used_by: Vec<UsedBy>,
    pub(crate) largest_files: Vec<LargeFile>,
    /// Uses that the recorder excluded for privacy, by reason.
    pub(crate) excluded_uses: BTreeMap<String, u64>,
    /// Paths that were looked up and do not exist.
    pub(crate) absent_paths: usize,
    pub(crate) listed_directories: usize,
}

/// A number of files and bytes.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct FileSum {
    pub(crate) files: usize,
    /// Sizes of the files.
    pub(crate) bytes: u64,
    /// Bytes that processes read.
    pub(crate) read_bytes: u64,
    /// Bytes that the kernel read ahead.
    pub(crate) read_ahead_bytes: u64,
    /// Files whose read ranges the recorder does not know; they count as 0 bytes above.
    pub(crate) files_without_ranges: usize,
}

/// When a share of the files had been used.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct UsedBy {
    pub(crate) percent: u8,
    pub(crate) at_us: u64,
}

/// One of the largest files.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct LargeFile {
    pub(crate) path: String,
    pub(crate) size: u64,
    pub(crate) first_use_us: u64,
}
