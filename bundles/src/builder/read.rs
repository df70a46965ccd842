//! Reading many traces side by side.

use std::path::PathBuf;

use super::Uses;
use super::collect::Collection;
use super::processors::side_by_side;
use crate::file::{self, FileError};

/// A trace to be read.
#[derive(Debug, Clone)]
pub struct TraceFile {
    /// Where it is.
    pub path: PathBuf,
    /// What kind of work it shows; `None` if it says so itself.
    pub profile: Option<String>,
}

impl Uses {
    /// Reads traces, on as many processors as there are. Each takes some that stand one behind the other, and collects what
    /// they say by itself.
    pub fn read(traces: &[TraceFile]) -> Result<Self, FileError> {
        let collections: Result<_, _> = side_by_side(traces, collect).into_iter().collect();
        Ok(Self::of(collections?))
    }
}

fn collect(traces: &[TraceFile]) -> Result<Collection, FileError> {
    let mut collection = Collection::default();
    for TraceFile { path, profile } in traces {
        file::read(path, |bytes| collection.add(bytes, profile.as_deref()))?;
    }
    Ok(collection)
}
