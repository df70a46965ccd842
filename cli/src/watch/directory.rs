//! Where the traces of a watched node are kept: a directory for each image, a file for each start, and not too many.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

/// What a trace's name ends in.
const ENDING: &str = "cpft";

pub(crate) struct Directory {
    path: PathBuf,
    keep: usize,
}

impl Directory {
    /// Makes the directory if it is not there.
    pub(crate) fn new(path: &Path, keep: usize) -> Result<Self> {
        fs::create_dir_all(path).with_context(|| format!("making the directory {}", path.display()))?;
        Ok(Self { path: path.to_owned(), keep })
    }

    /// Where the trace of a start belongs. Names sort by time.
    pub(crate) fn place(&self, chain_id: &str, container: &str) -> Result<PathBuf> {
        let image = self.path.join(chain_id.trim_start_matches("sha256:"));
        fs::create_dir_all(&image).with_context(|| format!("making the directory {}", image.display()))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Ok(image.join(format!("{now}-{}.{ENDING}", container.get(..12).unwrap_or(container))))
    }

    /// Removes the oldest traces that are too many.
    pub(crate) fn tidy(&self) {
        let mut traces = self.traces();
        traces.sort_by(|a, b| a.file_name().cmp(&b.file_name()));
        let many = traces.len().saturating_sub(self.keep);
        for trace in &traces[..many] {
            match fs::remove_file(trace) {
                Ok(()) => tracing::info!(trace = %trace.display(), "an old trace is removed"),
                Err(error) => tracing::warn!(%error, trace = %trace.display(), "an old trace cannot be removed"),
            }
        }
    }

    fn traces(&self) -> Vec<PathBuf> {
        let entries = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
        let images = entries(&self.path);
        images.flat_map(|image| entries(&image).collect::<Vec<_>>()).filter(|path| is_trace(path)).collect()
    }
}

fn is_trace(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == ENDING)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_oldest_of_all_images_go_first() {
        let root = tempfile::tempdir().unwrap();
        let directory = Directory::new(&root.path().join("traces"), 2).unwrap();
        for (image, name) in [("a", "3-x.cpft"), ("b", "1-x.cpft"), ("b", "2-x.cpft"), ("b", "0-x.cpft.partial")] {
            fs::create_dir_all(directory.path.join(image)).unwrap();
            fs::write(directory.path.join(image).join(name), "").unwrap();
        }
        directory.tidy();
        let mut left: Vec<_> =
            directory.traces().into_iter().map(|path| path.strip_prefix(&directory.path).unwrap().to_owned()).collect();
        left.sort();
        assert_eq!(left, [Path::new("a/3-x.cpft"), Path::new("b/2-x.cpft")]);
        assert!(directory.path.join("b/0-x.cpft.partial").exists(), "one that is being written was removed");
        let place = directory.place("sha256:abc", &"f".repeat(64)).unwrap();
        assert!(place.to_string_lossy().ends_with("-ffffffffffff.cpft") && place.parent().unwrap().ends_with("abc"));
    }
}
