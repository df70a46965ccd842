//! The file of a trace. It is written as `<name>.partial`, and renamed when the recording has ended.
//!
//! An older trace of the same name stays until then. After a crash, `<name>.partial` is a readable prefix of the trace.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bundles::trace::Trace;

/// The extension of an unfinished trace.
pub(crate) const UNFINISHED: &str = "partial";

pub(crate) struct Output {
    path: PathBuf,
    partial: PathBuf,
}

impl Output {
    pub(crate) fn new(path: &Path) -> Self {
        let mut partial = OsString::from(path);
        partial.push(".");
        partial.push(UNFINISHED);
        Self { path: path.to_owned(), partial: partial.into() }
    }

    /// Creates the unfinished file.
    pub(crate) fn create(&self) -> Result<tracer_ebpf::Output> {
        let file = File::create(&self.partial).with_context(|| format!("cannot write {}", self.partial.display()))?;
        Ok(Box::new(file))
    }

    /// Syncs the file, checks that it can be read, and renames it.
    pub(crate) fn finish(self) -> Result<Trace> {
        let context = || format!("cannot finish the trace {}", self.partial.display());
        File::open(&self.partial).and_then(|file| file.sync_all()).with_context(context)?;
        let trace = Trace::read(&self.partial)?;
        fs::rename(&self.partial, &self.path).with_context(context)?;
        Ok(trace)
    }

    /// Removes the file after a failed recording, if it is empty.
    pub(crate) fn discard_empty(self) {
        let empty = fs::metadata(&self.partial).is_ok_and(|metadata| metadata.len() == 0);
        if empty && let Err(error) = fs::remove_file(&self.partial) {
            tracing::debug!(%error, file = %self.partial.display(), "cannot remove the empty trace");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn an_older_trace_stays_until_the_new_one_is_complete() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.trace");
        fs::write(&path, "old").unwrap();
        let output = Output::new(&path);
        drop(output.create().unwrap());
        assert!(directory.path().join("a.trace.partial").exists());
        assert!(output.finish().is_err(), "an empty file is no trace");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        Output::new(&path).discard_empty();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "the empty file was not removed");
    }
}
