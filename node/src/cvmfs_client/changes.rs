//! Notices changes of the client's configuration: of its files, and of the configuration repository.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bundles::attribute::attribute;

use crate::mount::Mount;
use crate::mount_table::MountTable;

/// Maximum number of files of a directory that count.
pub(super) const MAX_FILES: usize = 256;

/// Directories of the configuration that have files which count.
const DIRECTORIES: [&str; 4] = ["", "default.d", "domain.d", "config.d"];
/// Timeout of the query for the configuration repository's revision.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What the client's configuration looked like at one time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fingerprint {
    files: BTreeMap<PathBuf, Stamp>,
    revision: Option<String>,
}

/// Changes when a file is written or replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    modified: (i64, i64),
    size: u64,
    inode: u64,
}

impl Fingerprint {
    /// The files below `root`, and the revision of the configuration repository if it is mounted. Does not have it mounted. Blocks
    /// for as long as the mount does, within a timeout.
    pub fn of(root: &Path, config_repository: Option<&Mount>) -> Self {
        Self { files: files(root), revision: config_repository.and_then(revision) }
    }

    /// Whether the configuration has changed since `earlier`. A revision that is unknown has not changed.
    pub fn differs_from(&self, earlier: &Self) -> bool {
        let is_other = |(now, before)| now != before;
        self.files != earlier.files || self.revision.as_ref().zip(earlier.revision.as_ref()).is_some_and(is_other)
    }

    /// This, with the revision of `earlier` if it is unknown now.
    pub fn or_revision_of(self, earlier: &Self) -> Self {
        Self { revision: self.revision.or_else(|| earlier.revision.clone()), ..self }
    }
}

fn files(root: &Path) -> BTreeMap<PathBuf, Stamp> {
    let directories = DIRECTORIES.iter().map(|name| root.join(name));
    let entries = directories.flat_map(|path| std::fs::read_dir(path).into_iter().flatten().flatten().take(MAX_FILES));
    let stamp = |path: PathBuf| {
        let found = std::fs::metadata(&path).ok().filter(std::fs::Metadata::is_file)?;
        let stamp = Stamp { modified: (found.mtime(), found.mtime_nsec()), size: found.len(), inode: found.ino() };
        Some((path, stamp))
    };
    entries.filter_map(|entry| stamp(entry.path())).collect()
}

fn revision(mount: &Mount) -> Option<String> {
    MountTable::read().ok()?.at(mount.path())?;
    mount.run_blocking(TIMEOUT, |call| attribute(call.root(), "user.revision")).ok()?
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_change_of_a_file_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        std::fs::create_dir(root.join("config.d")).unwrap();
        std::fs::write(root.join("default.local"), "A=b\n").unwrap();
        let mut before = Fingerprint::of(root, None);
        assert!(!Fingerprint::of(root, None).differs_from(&before));
        let new_file = || std::fs::write(root.join("config.d/a.b.local"), "A=b\n").unwrap();
        let replaced = || {
            std::fs::write(root.join("new"), "A=c\n").unwrap();
            std::fs::rename(root.join("new"), root.join("default.local")).unwrap();
        };
        let removed = || std::fs::remove_file(root.join("config.d/a.b.local")).unwrap();
        let changes: [(&str, &dyn Fn()); 3] = [("new", &new_file), ("replaced", &replaced), ("removed", &removed)];
        for (what, change) in changes {
            change();
            let now = Fingerprint::of(root, None);
            assert!(now.differs_from(&before), "{what}");
            before = now;
        }
    }

    #[test]
    fn an_unknown_revision_is_no_change() {
        let revision = |text: Option<&str>| Fingerprint { revision: text.map(str::to_owned), ..Fingerprint::default() };
        for (now, before, differs) in [
            (Some("8"), Some("7"), true),
            (Some("7"), Some("7"), false),
            (None, Some("7"), false),
            (Some("7"), None, false),
        ] {
            assert_eq!(revision(now).differs_from(&revision(before)), differs, "{now:?} {before:?}");
        }
        assert_eq!(revision(None).or_revision_of(&revision(Some("7"))), revision(Some("7")));
    }
}
