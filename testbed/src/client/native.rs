//! A model of the stock client's own bundles: when a file, the trigger, is opened for the first time, a pool of threads fetches
//! the files of its bundle.
//!
//! The threads open the files through the mount; the pool has the stock client's default size. Unlike there, the list may have
//! any length.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::readers::open_all;

/// The stock client's default.
const THREADS: usize = 8;

/// A trigger and its files.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NativeBundle {
    /// The trigger's path in the repository.
    pub trigger: String,
    /// Where the repository is mounted.
    pub mount: PathBuf,
    /// The other files, below the mount.
    pub files: Vec<PathBuf>,
}

/// A bundle that waits for its trigger; `None` before and afterwards.
#[derive(Debug, Default)]
pub(super) struct Armed(Mutex<Option<NativeBundle>>);

impl Armed {
    pub(super) fn arm(&self, bundle: NativeBundle) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(bundle);
    }

    /// Must be called when a file is opened.
    pub(super) fn opened(&self, path: &str) {
        if let Some(NativeBundle { mount, files, .. }) = self.taken_by(path) {
            std::thread::spawn(move || {
                if let Err(error) = open_all(&mount, &files, THREADS) {
                    tracing::warn!("native bundle: {error:#}");
                }
            });
        }
    }

    /// The bundle, once, if `path` is its trigger.
    fn taken_by(&self, path: &str) -> Option<NativeBundle> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take_if(|bundle| bundle.trigger == path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_is_taken_once_and_by_its_trigger_alone() {
        let armed = Armed::default();
        assert!(armed.taken_by("/bin/a").is_none());
        armed.arm(NativeBundle { trigger: "/bin/a".into(), mount: "/cvmfs".into(), files: vec!["lib/b".into()] });
        for (path, files) in [("/bin/b", None), ("/bin/a", Some(1)), ("/bin/a", None)] {
            assert_eq!(armed.taken_by(path).map(|bundle| bundle.files.len()), files, "{path}");
        }
    }
}
