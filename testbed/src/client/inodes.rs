//! Inode numbers, as known to the kernel, with their paths and entries.
//!
//! A number is never reused, so numbers that the kernel still holds after a change of the revision keep their meaning; a path
//! whose file has changed gets a new number at its next lookup.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use fuser::FileType;

use super::entry::Entry;

/// The root's number, fixed by FUSE.
pub(super) const ROOT: u64 = 1;
/// Absent names that the kernel may remember; limits the memory needed to invalidate them.
const MAX_ABSENT: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct Inode {
    pub(super) path: String,
    pub(super) parent: u64,
    pub(super) name: String,
    pub(super) entry: Entry,
}

#[derive(Debug, Default)]
struct Table {
    /// At index number - 1.
    inodes: Vec<Arc<Inode>>,
    numbers: HashMap<String, u64>,
}

#[derive(Debug)]
pub(super) struct Inodes {
    table: RwLock<Table>,
    absent: Mutex<HashSet<(u64, String)>>,
}

/// What the kernel must invalidate after a change of the revision.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// Names in directories.
    pub(super) names: Vec<(u64, String)>,
    /// Attributes of directories.
    pub(super) directories: Vec<u64>,
}

impl Inodes {
    pub(super) fn new(root: Entry) -> Self {
        let inodes = Self { table: RwLock::default(), absent: Mutex::default() };
        inodes.insert(String::new(), ROOT, "", root);
        inodes
    }

    pub(super) fn get(&self, number: u64) -> Option<Arc<Inode>> {
        let index = usize::try_from(number.checked_sub(1)?).ok()?;
        self.table.read().unwrap_or_else(PoisonError::into_inner).inodes.get(index).cloned()
    }

    /// The number of `path`, new or known, which has just been looked up in the current revision.
    pub(super) fn insert(&self, path: String, parent: u64, name: &str, entry: Entry) -> u64 {
        if let Some(number) = self.table.read().unwrap_or_else(PoisonError::into_inner).numbers.get(&path) {
            return *number;
        }
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = table.numbers.get(&path) {
            return *number;
        }
        table.inodes.push(Arc::new(Inode { path: path.clone(), parent, name: name.to_owned(), entry }));
        let number = table.inodes.len() as u64;
        table.numbers.insert(path, number);
        number
    }

    /// Must be called when the kernel may remember a name's absence; returns false if it may not.
    pub(super) fn insert_absent(&self, parent: u64, name: &str) -> bool {
        let mut absent = self.absent.lock().unwrap_or_else(PoisonError::into_inner);
        let room = absent.len() < MAX_ABSENT;
        if room {
            absent.insert((parent, name.to_owned()));
        }
        room
    }

    /// All paths with their entries.
    pub(super) fn known(&self) -> Vec<(String, Entry)> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let inode = |number: u64| table.inodes[number as usize - 1].entry.clone();
        table.numbers.iter().map(|(path, number)| (path.clone(), inode(*number))).collect()
    }

    /// Updates the entries of paths (`None`: removed) and forgets all absent names.
    pub(super) fn apply(&self, changed: Vec<(String, Option<Entry>)>) -> Changes {
        let mut changes = Changes::default();
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        for (path, entry) in changed {
            let Some(number) = table.numbers.get(&path).copied() else { continue };
            let slot = &mut table.inodes[number as usize - 1];
            let old = Arc::clone(slot);
            match entry {
                Some(entry) if entry.kind == FileType::Directory && old.entry.kind == FileType::Directory => {
                    *slot = Arc::new(Inode { path, parent: old.parent, name: old.name.clone(), entry });
                    changes.directories.push(number);
                }
                _ => {
                    changes.names.push((old.parent, old.name.clone()));
                    table.numbers.remove(&path);
                }
            }
        }
        changes.names.extend(self.absent.lock().unwrap_or_else(PoisonError::into_inner).drain());
        changes
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn entry(kind: FileType, size: u64) -> Entry {
        let (permissions, modified, links, uid, gid) = (0o755, 0, 1, 0, 0);
        let (target, hash, chunked, compressed) = (None, None, false, true);
        let device = 0;
        Entry { kind, permissions, size, device, modified, links, uid, gid, target, hash, chunked, compressed }
    }

    #[test]
    fn a_changed_file_gets_a_new_number_and_a_changed_directory_keeps_its_own() {
        let (file, directory) = (|size| entry(FileType::RegularFile, size), |size| entry(FileType::Directory, size));
        let inodes = Inodes::new(directory(1));
        let number = inodes.insert("/f".into(), ROOT, "f", file(1));
        assert_eq!(inodes.insert("/f".into(), ROOT, "f", file(1)), number);
        assert!(inodes.insert_absent(ROOT, "g"));
        let mut changes = inodes.apply(vec![("/f".into(), Some(file(2))), (String::new(), Some(directory(2)))]);
        changes.names.sort();
        assert_eq!(changes.names, [(ROOT, "f".to_owned()), (ROOT, "g".to_owned())]);
        assert_eq!(changes.directories, [ROOT]);
        assert_ne!(inodes.insert("/f".into(), ROOT, "f", file(2)), number);
        assert_eq!(inodes.get(number).unwrap().entry.size, 1);
        assert_eq!(inodes.get(ROOT).unwrap().entry.size, 2);
        assert_eq!(inodes.apply(vec![("/f".into(), None)]).names, [(ROOT, "f".to_owned())]);
    }
}
