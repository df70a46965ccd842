//! What is different between two sets of files.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::Serialize;

use super::{DIRECTORY_DEPTH, File, Files, directory};
use crate::path::RootPath;

/// Files, objects and bytes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Paths.
    pub files: u64,
    /// Objects.
    pub objects: u64,
    /// Bytes of content.
    pub bytes: u64,
}

/// One path, and the bytes needed of it before and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Where.
    pub path: RootPath,
    /// Before.
    pub old: Totals,
    /// After.
    pub new: Totals,
}

/// What is different, each list with the largest difference in bytes first.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Diff {
    /// All before.
    pub old: Totals,
    /// All after.
    pub new: Totals,
    /// Files that are new.
    pub came: Vec<Change>,
    /// Files that are no more.
    pub went: Vec<Change>,
    /// Files of which more bytes are needed.
    pub grew: Vec<Change>,
    /// Files of which less bytes are needed.
    pub shrank: Vec<Change>,
    /// Files with as many bytes of another content.
    pub changed: Vec<Change>,
    /// How many files are as before.
    pub same: u64,
    /// The directories with a difference.
    pub by_directory: Vec<Change>,
}

impl Totals {
    fn of(file: Option<&File>) -> Self {
        file.map_or_else(Self::default, |file| Self { files: 1, objects: file.objects, bytes: file.bytes })
    }

    fn add(&mut self, other: Self) {
        self.files += other.files;
        self.objects += other.objects;
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

impl Change {
    /// How many bytes more or less.
    pub fn bytes(&self) -> i128 {
        i128::from(self.new.bytes) - i128::from(self.old.bytes)
    }
}

impl Diff {
    /// Compares.
    pub fn of(old: &Files, new: &Files) -> Self {
        let mut diff = Self::default();
        let mut directories = BTreeMap::<RootPath, (Totals, Totals)>::new();
        let paths = old.0.keys().chain(new.0.keys().filter(|path| !old.0.contains_key(*path)));
        for path in paths {
            let (before, after) = (old.0.get(path), new.0.get(path));
            let change = Change { path: path.clone(), old: Totals::of(before), new: Totals::of(after) };
            diff.old.add(change.old);
            diff.new.add(change.new);
            let (old, new) = directories.entry(directory(path, DIRECTORY_DEPTH)).or_default();
            old.add(change.old);
            new.add(change.new);
            match (before, after) {
                (None, _) => diff.came.push(change),
                (_, None) => diff.went.push(change),
                _ if change.bytes() > 0 => diff.grew.push(change),
                _ if change.bytes() < 0 => diff.shrank.push(change),
                (Some(before), Some(after)) if before.content != after.content => diff.changed.push(change),
                _ => diff.same += 1,
            }
        }
        let different = directories.into_iter().filter(|(_, (old, new))| old != new);
        diff.by_directory = different.map(|(path, (old, new))| Change { path, old, new }).collect();
        let Self { came, went, grew, shrank, changed, by_directory, .. } = &mut diff;
        for list in [came, went, grew, shrank, changed, by_directory] {
            list.sort_by(|a, b| {
                let key = |change: &Change| Reverse(change.bytes().unsigned_abs());
                key(a).cmp(&key(b)).then_with(|| a.path.cmp(&b.path))
            });
        }
        diff
    }

    /// The files that need more bytes than before, or are new, the largest difference first.
    pub fn growers(&self) -> Vec<&Change> {
        let mut all: Vec<_> = self.came.iter().chain(&self.grew).collect();
        all.sort_by(|a, b| b.bytes().cmp(&a.bytes()).then_with(|| a.path.cmp(&b.path)));
        all
    }
}
