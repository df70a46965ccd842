#![allow(clippy::unwrap_used)]

use super::*;

/// A workspace with a FIFO and the revision `protocol`.
fn workspace(protocol: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("cachemgr");
    nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    fs::write(dir.path().join("cachemgr.protocol"), protocol).unwrap();
    (dir, fifo)
}

fn reader(fifo: &Path) -> File {
    OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(fifo).unwrap()
}

#[test]
fn a_record_is_laid_out_as_the_manager_reads_it() {
    let digest: [u8; 20] = std::array::from_fn(|i| 0xa0 + i as u8);
    let expected = [
        &[1, 0, 0, 0][..],            // command
        &[0; 4],                      // padding
        &[0x08, 7, 6, 5, 4, 3, 2, 1], // size
        &[0xff; 4],                   // no return pipe
        &digest,                      // from byte 20
        &[5, 0],                      // length of the description
        &[0; 6],                      // padding
        b"/a/\xc3\xa9",               // from byte 48
    ]
    .concat();
    let hash = ContentHash::sha1(digest);
    assert_eq!(insert_record(&hash, 0x0102_0304_0506_0708, "/a/\u{e9}".as_bytes()), expected);
    for (algorithm, top) in [(HashAlgorithm::Sha1, 0), (HashAlgorithm::Rmd160, 0x20), (HashAlgorithm::Shake128, 0x40)] {
        let record = insert_record(&ContentHash { algorithm, digest }, 3, b"");
        assert_eq!((record[8..16].to_vec(), record.len()), (vec![3, 0, 0, 0, 0, 0, 0, top], 48), "{algorithm:?}");
    }
    let long = insert_record(&hash, 1, &[b'x'; 4096]);
    assert_eq!((long.len(), &long[40..42]), (512, &464u16.to_le_bytes()[..]));
    let status = status_record(0x0010_0001);
    assert_eq!((status.len(), status[0], &status[16..20]), (48, 10, &[1, 0, 0x10, 0][..]));
}

#[test]
fn a_record_is_written_only_for_a_manager_of_our_revision() {
    for (protocol, written) in [("2", true), ("2\n", true), ("3", false), ("1", false), ("", false), ("two", false)] {
        let (dir, fifo) = workspace(protocol);
        let mut reader = reader(&fifo);
        let manager = CacheManager::in_workspace(dir.path());
        let hash = ContentHash::sha1([7; 20]);
        assert_eq!(manager.insert(&hash, 9, b"/x").is_ok(), written);
        let mut bytes = [0; 600];
        let read = reader.read(&mut bytes).unwrap_or(0);
        let expected = if written { insert_record(&hash, 9, b"/x") } else { Vec::new() };
        assert_eq!(bytes[..read], expected, "{protocol:?}");
        assert_eq!(manager.reachable().is_ok(), written);
    }
    let (dir, fifo) = workspace("2");
    fs::remove_file(dir.path().join("cachemgr.protocol")).unwrap();
    let _reader = reader(&fifo);
    let said = CacheManager::in_workspace(dir.path()).reachable().unwrap_err();
    assert!(matches!(said, ManagerError::UnsupportedProtocol { .. }), "{said}");
}

#[test]
fn a_failed_registration_says_why() {
    let (dir, fifo) = workspace("2");
    let manager = CacheManager::in_workspace(dir.path());
    let hash = ContentHash::sha1([7; 20]);
    let cause = |result: Result<(), ManagerError>| Registration::from(&result.unwrap_err());
    assert_eq!(cause(manager.insert(&hash, 1, b"/x")), Registration::NoManager);
    assert!(matches!(manager.reachable(), Err(ManagerError::NoManager(_))));
    let mut reader = reader(&fifo);
    // A pipe has 64 KiB.
    let results: Vec<_> = (0..=(64 << 10) / HEAD).map(|_| manager.insert(&hash, 1, b"")).collect();
    assert!(results[0].is_ok() && manager.is_full.load(Ordering::Relaxed));
    assert_eq!(cause(manager.insert(&hash, 1, b"/x")), Registration::PipeFull);
    reader.read_exact(&mut [0; 16 << 10]).unwrap();
    manager.insert(&hash, 1, b"/x").unwrap();
    assert!(!manager.is_full.load(Ordering::Relaxed));
    fs::remove_file(&fifo).unwrap();
    assert!(matches!(manager.reachable(), Err(ManagerError::NoManager(_))));
    // A file that is not a FIFO is not written to.
    fs::write(&fifo, "").unwrap();
    assert_eq!(cause(manager.insert(&hash, 1, b"/x")), Registration::Failed);
    assert_eq!(fs::read(&fifo).unwrap(), b"");
}

#[test]
fn return_fifos_of_a_killed_daemon_are_removed() {
    let (dir, fifo) = workspace("2");
    for name in ["pipe7", "pipe1048576", "pipe1048600", "pipeline"] {
        nix::unistd::mkfifo(&dir.path().join(name), Mode::S_IRWXU).unwrap();
    }
    CacheManager::in_workspace(dir.path()).remove_return_pipes();
    let left = |name: &str| dir.path().join(name).exists();
    assert_eq!(["pipe7", "pipe1048576", "pipe1048600", "pipeline"].map(left), [true, false, false, true]);
    assert!(fifo.exists());
}

#[test]
fn a_status_query_ends_with_the_answer_or_the_timeout() {
    let (dir, fifo) = workspace("2");
    let manager = CacheManager::in_workspace(dir.path());
    let mut requests = reader(&fifo);
    let root = dir.path().to_owned();
    let answering = std::thread::spawn(move || {
        let mut record = [0; HEAD];
        let end = Instant::now() + Duration::from_secs(30);
        while requests.read(&mut record).unwrap_or(0) < HEAD {
            assert!(Instant::now() < end, "nothing was asked");
            std::thread::sleep(Duration::from_millis(POLL.into()));
        }
        assert_eq!(record[0], STATUS as u8);
        let number = i32::from_le_bytes(record[16..20].try_into().unwrap());
        let pipe = root.join(format!("pipe{number}"));
        let mut answer = OpenOptions::new().write(true).open(pipe).unwrap();
        answer.write_all(&[1234u64.to_le_bytes(), 56u64.to_le_bytes()].concat()).unwrap();
        requests
    });
    assert_eq!(manager.status(Duration::from_secs(30)).unwrap(), Status { used: 1234, pinned: 56 });
    let _requests = answering.join().unwrap();
    let said = manager.status(Duration::from_millis(20)).unwrap_err();
    assert!(matches!(said, ManagerError::NoAnswer(_)), "{said}");
    // The end that a late answer would go to is still there, the name is not.
    assert!(manager.late.lock().is_some());
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.iter().filter(|name| name.to_string_lossy().starts_with("pipe")).count(), 0, "{left:?}");
}
