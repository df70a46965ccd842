//! The database on a file system that fills up. Needs root, to mount a small one.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::SystemTime;

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::*;
use crate::snapshots::state::NewSnapshot;
use crate::snapshots::{Content, Kind};

struct Mounted<'a>(&'a Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        umount2(self.0, MntFlags::MNT_DETACH).unwrap();
    }
}

fn add(store: &Arc<Store>, key: &str) -> Result<(), StoreError> {
    let reservation = store.reserve();
    // Large labels fill the disk sooner.
    let labels = [("label".to_owned(), "x".repeat(4000))].into();
    let (kind, content, now) = (Kind::Active, Content::Local, SystemTime::now());
    let new = NewSnapshot { id: reservation.id(), kind, parent: None, labels, content, now };
    store.update(|state| Ok((state.create(key, new).unwrap(), ())))
}

#[test]
#[ignore = "needs root"]
fn a_full_disk_fails_changes_until_there_is_space_and_loses_none() {
    let directory = tempfile::tempdir().unwrap();
    mount(Some("tmpfs"), directory.path(), Some("tmpfs"), MsFlags::empty(), Some("size=8m")).unwrap();
    let _mounted = Mounted(directory.path());
    let path = directory.path().join("metadata");
    let store = Arc::new(Store::open(&path).unwrap());
    let mut expected = Vec::new();
    for round in 0..3 {
        let filler = directory.path().join("filler");
        let mut file = fs::File::create(&filler).unwrap();
        while file.write_all(&[1; 4096]).is_ok() {}
        drop(file);
        let mut failed = 0;
        for number in 0..100 {
            let key = format!("{round}-{number:03}");
            match add(&store, &key) {
                Ok(()) => expected.push(key),
                Err(error) => {
                    failed += 1;
                    assert!(error.to_string().contains("No space left"), "{error}");
                    assert!(store.read(|state| state.get(&key).is_err()));
                }
            }
        }
        assert!(failed > 0, "the disk was not full");
        fs::remove_file(&filler).unwrap();
        let key = format!("{round}-after");
        add(&store, &key).unwrap();
        expected.push(key);
    }
    expected.sort();
    let names = |store: &Store| store.read(|state| state.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>());
    assert_eq!(names(&store), expected);
    drop(store);
    assert_eq!(names(&Store::open(&path).unwrap()), expected);
}
