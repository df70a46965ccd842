//! Differences between two sets of files.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::Serialize;

use super::{DIRECTORY_DEPTH, File, Files, directory};
use crate::path::RootPath;

/// Counts of files, objects and bytes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Number of paths.
    pub files: u64,
    /// Number of objects.
    pub objects: u64,
    /// Bytes of content.
    pub bytes: u64,
}

/// A path, and what was needed of it before and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The file or directory.
    pub path: RootPath,
    /// What was needed before.
    pub old: Totals,
    /// What is needed after.
    pub new: Totals,
}

/// Differences; each list is sorted by difference in bytes, the largest first.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Diff {
    /// Totals before.
    pub old: Totals,
    /// Totals after.
    pub new: Totals,
    /// Files that are needed only after.
    pub added: Vec<Change>,
    /// Files that were needed only before.
    pub removed: Vec<Change>,
    /// Files that need more bytes.
    pub grew: Vec<Change>,
    /// Files that need fewer bytes.
    pub shrank: Vec<Change>,
    /// Files with other content of the same size.
    pub changed: Vec<Change>,
    /// Number of unchanged files.
    pub unchanged: u64,
    /// Directories with differences.
    pub by_directory: Vec<Change>,
}

impl Totals {
    fn for_file(file: Option<&File>) -> Self {
        file.map_or_else(Self::default, |file| Self { files: 1, objects: file.objects, bytes: file.bytes })
    }

    fn add(&mut self, other: Self) {
        self.files += other.files;
        self.objects += other.objects;
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

impl Change {
    /// Difference in bytes.
    pub fn bytes(&self) -> i128 {
        i128::from(self.new.bytes) - i128::from(self.old.bytes)
    }
}

impl Diff {
    /// Compares two sets of files.
    pub fn between(old: &Files, new: &Files) -> Self {
        let mut diff = Self::default();
        let mut directories = BTreeMap::<RootPath, (Totals, Totals)>::new();
        let paths = old.0.keys().chain(new.0.keys().filter(|path| !old.0.contains_key(*path)));
        for path in paths {
            let (before, after) = (old.0.get(path), new.0.get(path));
            let change = Change { path: path.clone(), old: Totals::for_file(before), new: Totals::for_file(after) };
            diff.old.add(change.old);
            diff.new.add(change.new);
            let (old, new) = directories.entry(directory(path, DIRECTORY_DEPTH)).or_default();
            old.add(change.old);
            new.add(change.new);
            match (before, after) {
                (None, _) => diff.added.push(change),
                (_, None) => diff.removed.push(change),
                _ if change.bytes() > 0 => diff.grew.push(change),
                _ if change.bytes() < 0 => diff.shrank.push(change),
                (Some(before), Some(after)) if before.content != after.content => diff.changed.push(change),
                _ => diff.unchanged += 1,
            }
        }
        let different = directories.into_iter().filter(|(_, (old, new))| old != new);
        diff.by_directory = different.map(|(path, (old, new))| Change { path, old, new }).collect();
        let Self { added, removed, grew, shrank, changed, by_directory, .. } = &mut diff;
        for list in [added, removed, grew, shrank, changed, by_directory] {
            list.sort_by(|a, b| {
                let key = |change: &Change| Reverse(change.bytes().unsigned_abs());
                key(a).cmp(&key(b)).then_with(|| a.path.cmp(&b.path))
            });
        }
        diff
    }

    /// Files that are new or need more bytes, the largest difference first.
    pub fn increases(&self) -> Vec<&Change> {
        let mut all: Vec<_> = self.added.iter().chain(&self.grew).collect();
        all.sort_by(|a, b| b.bytes().cmp(&a.bytes()).then_with(|| a.path.cmp(&b.path)));
        all
    }
}
