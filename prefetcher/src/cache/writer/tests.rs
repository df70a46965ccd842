#![allow(clippy::unwrap_used)]
use super::*;
use crate::cache::TEMPORARY_PREFIX;

fn files(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    names.collect()
}

fn put(cache: &PosixCache, hash: &ContentHash, content: &[u8]) {
    let mut incoming = cache.begin(hash, content.len() as u64, b"/x").unwrap();
    incoming.write_all(content).unwrap();
    incoming.commit().unwrap();
}

#[test]
fn an_object_is_visible_only_after_its_commit() {
    let dir = tempfile::tempdir().unwrap();
    let (cache, hash) = (PosixCache::new(dir.path()), ContentHash::sha1([0xab; 20]));
    cache.prepare().unwrap();
    let mut incoming = cache.begin(&hash, 7, b"/x").unwrap();
    incoming.write_all(b"content").unwrap();
    assert!(!cache.contains(&hash, 7));
    assert_eq!(files(&dir.path().join("txn")).len(), 1);
    incoming.commit().unwrap();
    assert!(cache.contains(&hash, 7) && !cache.contains(&hash, 8));
    let found = fs::metadata(dir.path().join("ab").join("ab".repeat(19))).unwrap();
    assert_eq!(found.mode() & 0o7777, 0o600);
    assert_eq!(found.uid(), fs::metadata(dir.path()).unwrap().uid());
    drop(cache.begin(&hash, 7, b"/x").unwrap());
    assert!(files(&dir.path().join("txn")).is_empty());
}

#[test]
#[ignore = "needs root"]
fn as_root_new_files_belong_to_the_owner_of_the_cache() {
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(dir.path(), Some(1234), Some(4321)).unwrap();
    let (cache, hash) = (PosixCache::new(dir.path()), ContentHash::sha1([1; 20]));
    cache.prepare().unwrap();
    put(&cache, &hash, b"x");
    for path in ["txn".to_owned(), "01".to_owned(), hash.cache_path()] {
        let found = fs::metadata(dir.path().join(&path)).unwrap();
        assert_eq!((found.uid(), found.gid()), (1234, 4321), "{path}");
    }
}

#[test]
fn abandoned_files_of_this_daemon_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    let txn = dir.path().join("txn");
    fs::create_dir(&txn).unwrap();
    for name in ["cvmfs-prefetch.1.2", "fetchA1b2C3"] {
        fs::write(txn.join(name), "half").unwrap();
    }
    let cache = PosixCache::new(dir.path());
    cache.prepare().unwrap();
    assert_eq!(files(&txn), ["fetchA1b2C3"]);
    // Files that are begun later are not abandoned.
    let incoming = cache.begin(&ContentHash::sha1([1; 20]), 0, b"/x").unwrap();
    cache.prepare().unwrap();
    incoming.commit().unwrap();
}

#[test]
fn a_cache_is_locked_against_a_second_daemon_even_after_a_wipe() {
    let dir = tempfile::tempdir().unwrap();
    let [first, second] = [(); 2].map(|()| PosixCache::new(dir.path()));
    first.prepare().unwrap();
    assert!(matches!(second.prepare(), Err(CacheError::InUse(_))));
    fs::remove_dir_all(dir.path().join("txn")).unwrap();
    put(&first, &ContentHash::sha1([2; 20]), b"y");
    first.prepare().unwrap();
    assert!(matches!(second.prepare(), Err(CacheError::InUse(_))));
    drop(first);
    second.prepare().unwrap();
    let missing = PosixCache::new(&dir.path().join("missing"));
    assert!(missing.prepare().unwrap_err().to_string().contains("missing"));
}

#[test]
fn a_shared_cache_has_group_modes_whatever_the_umask() {
    let dir = tempfile::tempdir().unwrap();
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(dir.path(), Some(1234), Some(4321)).unwrap();
    }
    let allowed = Allowed { share: 1.0, quota: None };
    let cache = PosixCache::with(dir.path(), Rules::Group, allowed, None);
    cache.prepare().unwrap();
    let hash = ContentHash::sha1([1; 20]);
    put(&cache, &hash, b"x");
    let owner = fs::metadata(dir.path()).unwrap();
    for (path, mode) in [("txn".to_owned(), 0o770), ("01".to_owned(), 0o770), (hash.cache_path(), 0o660)] {
        let found = fs::metadata(dir.path().join(&path)).unwrap();
        assert_eq!((found.mode() & 0o7777, found.gid()), (mode, owner.gid()), "{path}");
    }
    // Another node's daemon may write beside ours, another of this node may not.
    let other_node = dir.path().join("txn").join(format!("{TEMPORARY_PREFIX}other-node.1.2"));
    fs::write(&other_node, "half").unwrap();
    let second = PosixCache::with(dir.path(), Rules::Group, allowed, None);
    assert!(matches!(second.prepare(), Err(CacheError::InUse(_))));
    drop(cache);
    second.prepare().unwrap();
    assert!(other_node.exists());
}

#[test]
fn free_space_without_a_manager_is_the_share() {
    let dir = tempfile::tempdir().unwrap();
    let allowed = Allowed { share: 0.5, quota: Some(1 << 20) };
    let manager = CacheManager::in_workspace(dir.path());
    let free_space = PosixCache::with(dir.path(), Rules::Client, allowed, Some(manager)).free_space().unwrap();
    assert_eq!(free_space, FreeSpace { bytes: 1 << 19, quota: Some(1 << 20), used: None, pinned: None });
    assert!(PosixCache::new(&dir.path().join("none")).free_space().is_err());
}
