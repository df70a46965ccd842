#![allow(clippy::unwrap_used)]
use super::*;
use crate::cache::TEMPORARY_PREFIX;

fn files(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    names.collect()
}

fn alien(dir: &Path) -> PosixCache {
    let directory = Directory { dir: dir.to_owned(), rules: Rules::Group, pause: None };
    PosixCache::with(directory, Allowed::default(), None)
}

/// The client's cache with a cache manager, half of whose quota may be written. Nothing is written while `dir/pause` exists.
fn managed(dir: &Path, quota: Option<u64>) -> PosixCache {
    let directory = Directory { dir: dir.to_owned(), rules: Rules::Client, pause: Some(dir.join("pause")) };
    let allowed = Allowed { share: 0.5, quota, ..Allowed::default() };
    PosixCache::with(directory, allowed, Some(CacheManager::in_workspace(dir)))
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
    let cache = alien(dir.path());
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
    let second = alien(dir.path());
    assert!(matches!(second.prepare(), Err(CacheError::InUse(_))));
    drop(cache);
    second.prepare().unwrap();
    assert!(other_node.exists());
}

#[test]
fn free_space_without_a_manager_is_a_tenth() {
    let dir = tempfile::tempdir().unwrap();
    let cache = managed(dir.path(), Some(1 << 20));
    let found = cache.free_space().unwrap();
    // A tenth of the quota, because nobody evicts what is written now.
    assert_eq!((found.bytes, found.hourly_bytes, found.quota), ((1 << 20) / 10, 1 << 20, Some(1 << 20)));
    assert_eq!((found.used, found.pinned, found.unregistered), (None, None, 0));
    assert!(PosixCache::new(&dir.path().join("none")).free_space().is_err());
}

#[test]
fn an_object_that_is_there_keeps_its_inode_on_a_commit() {
    let dir = tempfile::tempdir().unwrap();
    // Two nodes fetch the same object for one alien cache.
    let (first, second) = (alien(dir.path()), alien(dir.path()));
    first.prepare().unwrap();
    let hash = ContentHash::sha1([3; 20]);
    let path = dir.path().join(hash.cache_path());
    let mut late = second.begin(&hash, 7, b"/x").unwrap();
    late.write_all(b"content").unwrap();
    put(&first, &hash, b"content");
    let before = fs::metadata(&path).unwrap();
    late.commit().unwrap();
    let after = fs::metadata(&path).unwrap();
    assert_eq!((after.ino(), after.nlink()), (before.ino(), 1), "it was replaced while others may have it open");
    assert!(files(&dir.path().join("txn")).iter().all(|name| !name.contains(&hash.to_string())));
    // A damaged one, which no client would notice, is replaced.
    fs::write(&path, "cont").unwrap();
    assert!(!first.contains(&hash, 7));
    put(&first, &hash, b"content");
    assert_eq!(fs::read(&path).unwrap(), b"content");
    assert_ne!(fs::metadata(&path).unwrap().ino(), before.ino());
}

#[test]
fn temporary_files_on_beegfs_are_beside_the_object() {
    let directory = Directory { dir: "/c".into(), rules: Rules::Client, pause: None };
    let hash = ContentHash::sha1([0xab; 20]);
    let folder = |kind| directory.temporary(&hash, 1, kind).parent().unwrap().to_owned();
    assert_eq!(folder(FileSystemKind::BeeGfs), Path::new("/c/ab"));
    assert_eq!(folder(FileSystemKind::Nfs), Path::new("/c/txn"));
    assert_eq!(directory.temporary_directories(FileSystemKind::Other), [Path::new("/c/txn")]);
    let all = directory.temporary_directories(FileSystemKind::BeeGfs);
    assert_eq!((all.len(), all.last().unwrap().as_path()), (257, Path::new("/c/ff")));
}

#[test]
fn a_cache_without_folders_gets_those_that_the_client_makes() {
    let dir = tempfile::tempdir().unwrap();
    let cache = PosixCache::new(dir.path());
    // The client takes a cache with `ff` for complete. Made alone, it would keep the client from starting.
    put(&cache, &ContentHash::sha1([0xff; 20]), b"x");
    for folder in ["quarantaine", "txn", "00", "7f", "ff"] {
        let found = fs::metadata(dir.path().join(folder)).unwrap();
        assert_eq!(found.mode() & 0o7777, 0o700, "{folder}");
    }
    assert_eq!(files(dir.path()).len(), 258);
    // A single folder that was removed.
    fs::remove_dir(dir.path().join("3a")).unwrap();
    put(&cache, &ContentHash::sha1([0x3a; 20]), b"x");
    assert_eq!(files(dir.path()).len(), 258);
}

#[test]
fn a_cache_that_was_removed_is_not_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let cache_dir = dir.path().join("cache");
    fs::create_dir(&cache_dir).unwrap();
    let (cache, hash) = (PosixCache::new(&cache_dir), ContentHash::sha1([1; 20]));
    cache.prepare().unwrap();
    let mut incoming = cache.begin(&hash, 1, b"/x").unwrap();
    incoming.write_all(b"x").unwrap();
    fs::remove_dir_all(&cache_dir).unwrap();
    let error = incoming.commit().unwrap_err().to_string();
    assert!(error.contains("cache"), "{error}");
    assert!(cache.prepare().is_err() && cache.begin(&hash, 1, b"/x").is_err());
    assert!(!cache_dir.exists());
    // The client makes another one.
    fs::create_dir(&cache_dir).unwrap();
    put(&cache, &hash, b"x");
    cache.prepare().unwrap();
    assert!(cache.contains(&hash, 1));
    assert!(matches!(PosixCache::new(&cache_dir).prepare(), Err(CacheError::InUse(_))), "the new one is not locked");
}

#[test]
fn nothing_is_written_while_the_client_wipes_its_cache() {
    let dir = tempfile::tempdir().unwrap();
    let (cache, hash) = (managed(dir.path(), None), ContentHash::sha1([1; 20]));
    cache.prepare().unwrap();
    let mut incoming = cache.begin(&hash, 1, b"/x").unwrap();
    incoming.write_all(b"x").unwrap();
    assert!(!cache.is_paused());
    fs::create_dir(dir.path().join("pause")).unwrap();
    for folder in ["txn", "01", "ff"] {
        fs::remove_dir_all(dir.path().join(folder)).unwrap();
    }
    let error = incoming.commit().unwrap_err();
    assert!(matches!(error, CacheError::Paused(_)) && error.to_string().contains("cvmfs_config"), "{error}");
    assert!(matches!(cache.begin(&hash, 1, b"/x"), Err(CacheError::Paused(_))));
    assert!(cache.is_paused() && matches!(cache.prepare(), Err(CacheError::Paused(_))));
    assert!(!dir.path().join("txn").exists() && !dir.path().join("ff").exists());
    fs::remove_dir(dir.path().join("pause")).unwrap();
    cache.prepare().unwrap();
    put(&cache, &hash, b"x");
    assert!(cache.contains(&hash, 1));
}

#[test]
fn an_object_of_a_daemon_that_was_killed_is_registered() {
    let dir = tempfile::tempdir().unwrap();
    let hash = ContentHash::sha1([5; 20]);
    {
        let killed = managed(dir.path(), None);
        killed.prepare().unwrap();
        put(&killed, &hash, b"content");
    }
    // As after a kill between the link and the registration.
    fs::remove_file(dir.path().join("cvmfs-prefetch.unregistered")).unwrap();
    let temporary = dir.path().join("txn").join(format!("cvmfs-prefetch.1.2.{hash}"));
    fs::hard_link(dir.path().join(hash.cache_path()), &temporary).unwrap();
    let cache = managed(dir.path(), None);
    cache.prepare().unwrap();
    assert!(!temporary.exists() && cache.contains(&hash, 7));
    assert_eq!(cache.free_space().unwrap().unregistered, 7);
}

#[test]
fn objects_that_nobody_evicts_have_a_bound_across_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let mut written = 0;
    for life in 0..4 {
        let cache = managed(dir.path(), Some(1000));
        cache.prepare().unwrap();
        for number in 0..10 {
            let hash = ContentHash::sha1([life * 10 + number; 20]);
            let Ok(mut incoming) = cache.begin(&hash, 30, b"/x") else { continue };
            incoming.write_all(&[0; 30]).unwrap();
            incoming.commit().unwrap();
            written += 30;
        }
        assert_eq!(cache.free_space().unwrap().bytes, 10);
    }
    assert_eq!(written, 90);
    // With a cache that others have filled, not even that.
    fs::write(dir.path().join("00/other"), vec![0; 905]).unwrap();
    assert_eq!(managed(dir.path(), Some(1000)).free_space().unwrap().bytes, 5);
}

#[test]
fn a_disk_is_not_filled_beyond_its_reserve() {
    let dir = tempfile::tempdir().unwrap();
    let directory = Directory { dir: dir.path().to_owned(), rules: Rules::Client, pause: None };
    let cache = PosixCache::with(directory, Allowed { reserve: 0.999_999, ..Allowed::default() }, None);
    cache.prepare().unwrap();
    assert_eq!(cache.free_space().unwrap().bytes, 0);
    let error = cache.begin(&ContentHash::sha1([1; 20]), 1, b"/x").err().unwrap();
    assert!(matches!(error, CacheError::DiskFull { .. }) && error.to_string().contains("disk_reserve"), "{error}");
    assert!(files(&dir.path().join("txn")).is_empty());
}

#[test]
#[ignore = "needs root"]
fn as_root_a_link_in_the_place_of_a_folder_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(dir.path(), Some(1234), Some(4321)).unwrap();
    let outside = tempfile::tempdir().unwrap();
    let mode = 0o755;
    fs::set_permissions(outside.path(), std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        // The owner of the cache replaces folders by links as fast as it can.
        scope.spawn(|| {
            let folder = dir.path().join("txn");
            while !stop.load(Ordering::Relaxed) {
                if fs::remove_dir(&folder).is_ok() {
                    let _ = std::os::unix::fs::symlink(outside.path(), &folder);
                }
                let _ = fs::remove_file(&folder);
            }
        });
        let cache = PosixCache::new(dir.path());
        (0..2000).for_each(|_| drop(cache.prepare()));
        stop.store(true, Ordering::Relaxed);
    });
    let found = fs::metadata(outside.path()).unwrap();
    assert_eq!((found.uid(), found.gid(), found.mode() & 0o7777), (0, 0, mode));
}
