//! Reading many traces side by side.

use std::panic::resume_unwind;
use std::path::PathBuf;
use std::thread;

use super::Uses;
use super::collect::Collection;
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
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let shares = traces.chunks(traces.len().div_ceil(processors).max(1));
        let collections: Result<_, _> = thread::scope(|scope| {
            let threads: Vec<_> = shares.map(|share| scope.spawn(|| collect(share))).collect();
            let joined = threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
            joined.collect()
        });
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
