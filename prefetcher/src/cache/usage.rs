//! Counts the bytes of a cache when no cache manager does.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How long a count is relied on, with what was written since.
const RECENT: Duration = Duration::from_secs(60);

/// The last count of a cache.
#[derive(Debug, Default)]
pub(super) struct Usage(Mutex<Option<(Instant, u64)>>);

impl Usage {
    /// Returns the bytes of all objects in `folders`. Takes a system call for each of them if the last count is old.
    pub(super) fn bytes(&self, folders: impl Iterator<Item = PathBuf>) -> io::Result<u64> {
        let mut last = self.0.lock();
        if let Some((since, bytes)) = *last
            && since.elapsed() < RECENT
        {
            return Ok(bytes);
        }
        let mut bytes = 0u64;
        for folder in folders {
            let entries = match fs::read_dir(&folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                entries => entries?,
            };
            for entry in entries {
                // It may have been removed since.
                bytes = bytes.saturating_add(entry?.metadata().map_or(0, |found| found.len()));
            }
        }
        *last = Some((Instant::now(), bytes));
        Ok(bytes)
    }

    /// Adds an object that was written.
    pub(super) fn add(&self, bytes: u64) {
        if let Some((_, counted)) = &mut *self.0.lock() {
            *counted = counted.saturating_add(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn all_objects_are_counted_and_later_ones_added() {
        let dir = tempfile::tempdir().unwrap();
        let folders = || ["00", "01", "02"].map(|name| dir.path().join(name)).into_iter();
        for (name, size) in [("00", 3), ("01", 4)] {
            fs::create_dir(dir.path().join(name)).unwrap();
            fs::write(dir.path().join(name).join("object"), vec![0; size]).unwrap();
        }
        let usage = Usage::default();
        usage.add(1);
        assert_eq!(usage.bytes(folders()).unwrap(), 7);
        usage.add(5);
        assert_eq!(usage.bytes(folders()).unwrap(), 12);
    }
}
