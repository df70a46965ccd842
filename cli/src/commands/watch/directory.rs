//! The directory of the traces of a watched node: a directory per image, a file per start, a limited number of files.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use crate::recording::output::UNFINISHED;

/// The extension of a trace.
const EXTENSION: &str = "cpft";
/// An unfinished trace that was not written to for this time was left by a killed service.
const ABANDONED: Duration = Duration::from_secs(24 * 60 * 60);

pub(crate) struct Directory {
    path: PathBuf,
    keep: usize,
}

impl Directory {
    /// Creates the directory if it does not exist.
    pub(crate) fn new(path: &Path, keep: usize) -> Result<Self> {
        fs::create_dir_all(path).with_context(|| format!("cannot create the directory {}", path.display()))?;
        Ok(Self { path: path.to_owned(), keep })
    }

    /// The path for the trace of a start. Names sort by time.
    pub(crate) fn trace_path(&self, chain_id: &str, container: &str) -> Result<PathBuf> {
        let image = self.path.join(chain_id.trim_start_matches("sha256:"));
        fs::create_dir_all(&image).with_context(|| format!("cannot create the directory {}", image.display()))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Ok(image.join(format!("{now}-{}.{EXTENSION}", container.get(..12).unwrap_or(container))))
    }

    /// Removes the oldest traces beyond the limit, and abandoned ones.
    pub(crate) fn remove_old(&self) {
        let mut traces = self.files_with(EXTENSION);
        traces.sort_by(|a, b| a.file_name().cmp(&b.file_name()));
        let excess = traces.len().saturating_sub(self.keep);
        let abandoned = self.files_with(UNFINISHED).into_iter().filter(|path| is_abandoned(path));
        for trace in traces.into_iter().take(excess).chain(abandoned) {
            match fs::remove_file(&trace) {
                Ok(()) => tracing::info!(trace = %trace.display(), "old trace removed"),
                Err(error) => tracing::warn!(%error, trace = %trace.display(), "cannot remove an old trace"),
            }
        }
    }

    fn files_with(&self, extension: &str) -> Vec<PathBuf> {
        let entries = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
        let files = entries(&self.path).flat_map(|image| entries(&image).collect::<Vec<_>>());
        files.filter(|path| path.extension().is_some_and(|found| found == extension)).collect()
    }
}

fn is_abandoned(path: &Path) -> bool {
    let written = fs::metadata(path).and_then(|metadata| metadata.modified());
    written.is_ok_and(|at| at.elapsed().is_ok_and(|since| since > ABANDONED))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs::File;

    use super::*;

    #[test]
    fn the_oldest_traces_are_removed_first() {
        let root = tempfile::tempdir().unwrap();
        let directory = Directory::new(&root.path().join("traces"), 2).unwrap();
        let all = ["a/3-x.cpft", "b/1-x.cpft", "b/2-x.cpft", "b/0-x.cpft.partial", "b/1-y.cpft.partial"];
        for name in all {
            let path = directory.path.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let killed = File::options().write(true).open(directory.path.join("b/1-y.cpft.partial")).unwrap();
        killed.set_modified(SystemTime::now() - ABANDONED - Duration::from_secs(60)).unwrap();
        directory.remove_old();
        let left: Vec<_> = all.into_iter().filter(|name| directory.path.join(name).exists()).collect();
        assert_eq!(left, ["a/3-x.cpft", "b/2-x.cpft", "b/0-x.cpft.partial"]);
        let path = directory.trace_path("sha256:abc", &"f".repeat(64)).unwrap();
        assert!(path.to_string_lossy().ends_with("-ffffffffffff.cpft") && path.parent().unwrap().ends_with("abc"));
    }
}
