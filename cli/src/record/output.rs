//! The trace's file: it grows beside its name, and gets its name when it has its end.
//!
//! A trace that is there already is not touched before that. After a crash `<name>.partial` is the readable beginning.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bundles::trace::Trace;

/// What a trace's name has behind it while it grows.
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

    /// Makes the file.
    pub(crate) fn create(&self) -> Result<tracer_ebpf::Output> {
        let file = File::create(&self.partial).with_context(|| format!("cannot write {}", self.partial.display()))?;
        Ok(Box::new(file))
    }

    /// Reads what was written and gives it its name.
    pub(crate) fn finish(self) -> Result<Trace> {
        let context = || format!("keeping the trace {}", self.partial.display());
        File::open(&self.partial).and_then(|file| file.sync_all()).with_context(context)?;
        let trace = Trace::read(&self.partial)?;
        fs::rename(&self.partial, &self.path).with_context(context)?;
        Ok(trace)
    }

    /// Leaves nothing behind but what was recorded of a container.
    pub(crate) fn give_up(self) {
        let empty = fs::metadata(&self.partial).is_ok_and(|metadata| metadata.len() == 0);
        if empty && let Err(error) = fs::remove_file(&self.partial) {
            tracing::debug!(%error, file = %self.partial.display(), "an empty file is left");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_trace_that_is_there_stays_until_the_new_one_is_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.trace");
        fs::write(&path, "old").unwrap();
        let output = Output::new(&path);
        drop(output.create().unwrap());
        assert!(directory.path().join("a.trace.partial").exists());
        assert!(output.finish().is_err(), "an empty file is no trace");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        Output::new(&path).give_up();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "the empty file is left");
    }
}
