#![allow(clippy::unwrap_used)]
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::Instant;

use nix::sys::stat::Mode;

use super::*;
use crate::cache::directory::Rules;

/// A cache with a workspace, without a manager that reads the FIFO.
struct Cache(tempfile::TempDir);

impl Cache {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("txn")).unwrap();
        nix::unistd::mkfifo(&dir.path().join("cachemgr"), Mode::S_IRWXU).unwrap();
        fs::write(dir.path().join("cachemgr.protocol"), "2").unwrap();
        Self(dir)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn registrar(&self) -> Arc<Registrar> {
        let directory = Directory { dir: self.path().to_owned(), rules: Rules::Client, pause: None };
        Registrar::new(Arc::new(directory), CacheManager::in_workspace(self.path()))
    }

    fn reader(&self) -> File {
        let flags = OFlag::O_NONBLOCK.bits();
        OpenOptions::new().read(true).custom_flags(flags).open(self.path().join("cachemgr")).unwrap()
    }

    /// Makes an object of `size` bytes.
    fn object(&self, number: u8, size: usize) -> ContentHash {
        let hash = ContentHash::sha1([number; 20]);
        let path = self.path().join(hash.cache_path());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, vec![number; size]).unwrap();
        hash
    }

    fn record(&self) -> String {
        fs::read_to_string(self.path().join("cvmfs-prefetch.unregistered")).unwrap_or_default()
    }
}

/// The digests' first bytes and the sizes of all records that come within some time, until there are `count`.
fn registered(reader: &mut File, count: usize) -> Vec<(u8, u8)> {
    let (mut found, end) = (Vec::new(), Instant::now() + Duration::from_secs(30));
    while found.len() < count {
        assert!(Instant::now() < end, "only {found:?} were registered");
        let mut head = [0; 48];
        match reader.read(&mut head) {
            Ok(48) => {
                reader.read_exact(&mut vec![0; usize::from(head[40])]).unwrap();
                found.push((head[20], head[8]));
            }
            _ => std::thread::sleep(Duration::from_millis(1)),
        }
    }
    found
}

#[test]
fn what_could_not_be_registered_is_registered_before_anything_new() {
    let cache = Cache::new();
    let registrar = cache.registrar();
    for number in [1, 2, 3] {
        registrar.register(&cache.object(number, number.into()), number.into(), b"/x");
    }
    assert_eq!(registrar.unregistered(), (3, 6));
    assert_eq!(cache.record().lines().count(), 3, "{}", cache.record());
    // Removed meanwhile, and replaced by one of another size: the manager must not count these.
    fs::remove_file(cache.path().join(ContentHash::sha1([2; 20]).cache_path())).unwrap();
    cache.object(3, 9);
    let mut reader = cache.reader();
    registrar.register(&cache.object(4, 4), 4, b"/x");
    assert_eq!(registered(&mut reader, 2), [(1, 1), (4, 4)]);
    assert_eq!((registrar.unregistered(), cache.record()), ((0, 0), String::new()));
}

#[test]
fn a_thread_registers_when_a_manager_reads_again() {
    let cache = Cache::new();
    let registrar = cache.registrar();
    registrar.register(&cache.object(1, 1), 1, b"/x");
    assert_eq!(registered(&mut cache.reader(), 1), [(1, 1)]);
    // Another time, with a FIFO that is full.
    let mut reader = cache.reader();
    let end = Instant::now() + Duration::from_secs(30);
    while registrar.unregistered().0 > 0 {
        assert!(Instant::now() < end);
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut writer = OpenOptions::new()
        .write(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(cache.path().join("cachemgr"))
        .unwrap();
    assert!(writer.metadata().unwrap().file_type().is_fifo());
    while writer.write(&[0; 512]).is_ok() {}
    registrar.register(&cache.object(2, 2), 2, b"/x");
    assert_eq!(registrar.unregistered(), (1, 2));
    let mut filling = vec![0; 64 << 10];
    reader.read_exact(&mut filling).unwrap();
    assert_eq!(registered(&mut reader, 1), [(2, 2)]);
}

#[test]
fn a_restart_of_the_daemon_registers_the_rest() {
    let cache = Cache::new();
    let registrar = cache.registrar();
    registrar.register(&cache.object(1, 1), 1, "/ü\n\u{7}9 x".as_bytes());
    registrar.register(&cache.object(2, 2), 2, &[b'x'; 400]);
    drop(registrar);
    // A line that was cut, and what was published but not registered.
    let mut record = OpenOptions::new().append(true).open(cache.path().join("cvmfs-prefetch.unregistered")).unwrap();
    record.write_all(b"\n12 nothash /x\n7").unwrap();
    let restarted = cache.registrar();
    assert_eq!(restarted.unregistered(), (2, 3), "`check` shows what the daemon recorded");
    restarted.load(vec![(cache.object(3, 3), 3)]);
    assert_eq!(restarted.unregistered(), (3, 6));
    assert_eq!(registered(&mut cache.reader(), 3), [(1, 1), (2, 2), (3, 3)]);
}

#[test]
fn a_record_that_is_no_file_is_not_read() {
    let cache = Cache::new();
    nix::unistd::mkfifo(&cache.path().join("cvmfs-prefetch.unregistered"), Mode::S_IRWXU).unwrap();
    let registrar = cache.registrar();
    registrar.load(Vec::new());
    assert_eq!(registrar.unregistered(), (0, 0));
}

#[test]
fn unregistered_objects_have_a_bound() {
    let cache = Cache::new();
    let registrar = cache.registrar();
    // Nothing waits: the manager evicts what comes in.
    registrar.check_bound(1000, Some(10)).unwrap();
    registrar.register(&cache.object(1, 8), 8, b"/x");
    registrar.check_bound(2, Some(10)).unwrap();
    let error = registrar.check_bound(3, Some(10)).unwrap_err();
    assert!(matches!(error, CacheError::Unregistered { objects: 1, bytes: 8, .. }), "{error}");
    registrar.check_bound(3, None).unwrap();
    let many = ContentHash::sha1([1; 20]);
    (0..3 * MAX_UNREGISTERED).for_each(|_| registrar.backlog.lock().push(Unregistered::new(&many, 0, b"")));
    assert!(registrar.check_bound(0, None).is_err());
    // One that was begun before is not remembered beyond that.
    registrar.register(&many, 0, b"");
    assert!(registrar.unregistered().0 < 3 * MAX_UNREGISTERED + 2);
    fs::remove_file(cache.path().join(many.cache_path())).unwrap();
    registrar.forget_removed();
    assert_eq!(registrar.unregistered(), (0, 0));
}

#[test]
fn the_record_is_written_anew_before_it_grows_for_ever() {
    let cache = Cache::new();
    let registrar = cache.registrar();
    registrar.backlog.lock().lines = MAX_LINES;
    registrar.register(&cache.object(1, 1), 1, b"/x");
    assert_eq!(cache.record().lines().count(), 1);
    registrar.backlog.lock().lines = MAX_LINES;
    registrar.register(&cache.object(2, 2), 2, b"/x");
    assert_eq!(cache.record().lines().count(), 2);
    assert_eq!(registrar.backlog.lock().lines, 2);
}
