//! Options of a recorder.

use crate::cgroup::Version;

/// What to record, and the sizes of buffers. The defaults suffice for every container seen so far.
#[derive(Debug, Clone)]
pub struct Options {
    /// Bytes of the ring buffer between kernel and recorder: a power of two, at least a page.
    pub ring_bytes: u32,
    /// Entries of the kernel's map of page bitmaps, each for 64 pages of a file.
    pub page_bitmaps: u32,
    /// Most files in a trace. Further files count as lost.
    pub max_files: usize,
    /// Also record paths that do not exist.
    pub absent_paths: bool,
    /// Also record directories that are listed.
    pub listed_directories: bool,
    /// Allow [`Recorder::watch`](crate::Recorder::watch), which needs another program in the kernel.
    pub watch: bool,
    /// Identify containers by this version of cgroups; None: the best that the host has.
    pub cgroups: Option<Version>,
    /// Use only the programs that every kernel accepts, so that tests cover them.
    #[doc(hidden)]
    pub baseline_only: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            ring_bytes: 8 << 20,
            page_bitmaps: 1 << 17,
            max_files: 1 << 20,
            absent_paths: false,
            listed_directories: false,
            watch: false,
            cgroups: None,
            baseline_only: false,
        }
    }
}
