//! Where the traces of a watched node are kept: a directory for each image, a file for each start, and not too many.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use crate::record::output::UNFINISHED;

/// What a trace's name ends in.
const ENDING: &str = "cpft";
/// A beginning of a trace to which nothing was added for so long is what a killed watcher left.
const LEFT: Duration = Duration::from_secs(24 * 60 * 60);

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

    /// Removes the oldest traces that are too many, and what killed watchers left.
    pub(crate) fn tidy(&self) {
        let mut traces = self.ending_in(ENDING);
        traces.sort_by(|a, b| a.file_name().cmp(&b.file_name()));
        let many = traces.len().saturating_sub(self.keep);
        let left = self.ending_in(UNFINISHED).into_iter().filter(|path| is_left(path));
        for trace in traces.into_iter().take(many).chain(left) {
            match fs::remove_file(&trace) {
                Ok(()) => tracing::info!(trace = %trace.display(), "an old trace is removed"),
                Err(error) => tracing::warn!(%error, trace = %trace.display(), "an old trace cannot be removed"),
            }
        }
    }

    fn ending_in(&self, ending: &str) -> Vec<PathBuf> {
        let entries = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
        let files = entries(&self.path).flat_map(|image| entries(&image).collect::<Vec<_>>());
        files.filter(|path| path.extension().is_some_and(|found| found == ending)).collect()
    }
}

fn is_left(path: &Path) -> bool {
    let written = fs::metadata(path).and_then(|metadata| metadata.modified());
    written.is_ok_and(|at| at.elapsed().is_ok_and(|since| since > LEFT))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs::File;

    use super::*;

    #[test]
    fn the_oldest_of_all_images_go_first() {
        let root = tempfile::tempdir().unwrap();
        let directory = Directory::new(&root.path().join("traces"), 2).unwrap();
        let all = ["a/3-x.cpft", "b/1-x.cpft", "b/2-x.cpft", "b/0-x.cpft.partial", "b/1-y.cpft.partial"];
        for name in all {
            let path = directory.path.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let killed = File::options().write(true).open(directory.path.join("b/1-y.cpft.partial")).unwrap();
        killed.set_modified(SystemTime::now() - LEFT - Duration::from_secs(60)).unwrap();
        directory.tidy();
        let left: Vec<_> = all.into_iter().filter(|name| directory.path.join(name).exists()).collect();
        assert_eq!(left, ["a/3-x.cpft", "b/2-x.cpft", "b/0-x.cpft.partial"]);
        let place = directory.place("sha256:abc", &"f".repeat(64)).unwrap();
        assert!(place.to_string_lossy().ends_with("-ffffffffffff.cpft") && place.parent().unwrap().ends_with("abc"));
    }
}
