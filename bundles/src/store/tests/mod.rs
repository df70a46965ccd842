use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use rocksdb::DB;

use super::layout::SCHEMA_KEY;
use super::*;
use crate::bundle::{BundleObject, FORMAT};
use crate::codec::Format;
use crate::object::ContentHash;
use crate::path::RootPath;

mod kill;

const LIMIT: u64 = DEFAULT_LIMIT;

fn chain(name: &str) -> ChainId {
    ChainId(Digest::sha256(name.as_bytes()))
}

fn bundle(name: &str, manifest: Option<&str>) -> Bundle {
    let manifest = manifest.map(|m| Digest::sha256(m.as_bytes()));
    let image = ImageId { chain_id: chain(name), manifest, reference: name.to_owned() };
    Bundle::new(image, "unpacked.example.org")
}

/// A bundle of `count` objects, whose hashes do not compress.
fn large(name: &str, count: u32) -> Bundle {
    let object = |n: u32| {
        let hash = ContentHash::sha1_of(format!("{name} {n}").as_bytes());
        BundleObject::file(hash, 1, RootPath::new(format!("/{n}")).unwrap())
    };
    Bundle { objects: (0..count).map(object).collect(), ..bundle(name, Some(name)) }
}

/// A clock that advances by a second with every look at it.
fn tick() -> SystemTime {
    static SECONDS: AtomicU64 = AtomicU64::new(1);
    UNIX_EPOCH + Duration::from_secs(SECONDS.fetch_add(1, Ordering::Relaxed))
}

fn names(store: &Store) -> Vec<String> {
    let mut names = store.list(|stored| stored.bundle.image.reference.clone()).unwrap().bundles;
    names.sort();
    names
}

/// Overwrites a stored bundle with `bytes`.
fn damage(store: &Store, name: &str, bytes: &[u8]) {
    store.view.database.put_cf(store.view.family(BUNDLES), chain(name).0.as_bytes(), bytes).unwrap();
}

#[test]
fn bundles_are_found_by_both_names_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let (one, two) = (bundle("one", Some("m1")), bundle("two", None));
    let origin = Origin::Repository { mount: "/cvmfs/a.b".into(), version: "hash x".into() };
    {
        let store = Store::open(directory.path(), LIMIT).unwrap();
        store.put(&one, Some(origin.clone())).unwrap();
        store.put(&two, None).unwrap();
    }
    let store = Store::open(directory.path(), LIMIT).unwrap();
    let found = store.by_chain(&chain("one")).unwrap().unwrap();
    assert_eq!((found.bundle, found.facts.origin), (one.clone(), Some(origin)));
    assert_eq!(store.by_chain(&chain("two")).unwrap().unwrap().bundle, two);
    assert_eq!(store.by_manifest(&Digest::sha256(b"m1")).unwrap().unwrap().bundle, one);
    assert_eq!(store.by_manifest(&Digest::sha256(b"m2")).unwrap(), None);
    assert_eq!(store.remove(&[chain("one"), chain("none")]).unwrap(), 1);
    assert_eq!(store.remove(&[chain("one")]).unwrap(), 0);
    assert_eq!(store.by_manifest(&Digest::sha256(b"m1")).unwrap(), None);
    assert_eq!(names(&store), ["two"]);
    assert!(store.view.manifests().unwrap().is_empty() && store.view.facts().unwrap().len() == 1);
    let bytes = two.to_bytes().unwrap().len() as u64;
    assert_eq!(store.usage().unwrap(), Usage { bundles: 1, bytes });
}

#[test]
fn a_full_store_evicts_the_least_recently_used() {
    let directory = tempfile::tempdir().unwrap();
    let each = large("a", 1_000).to_bytes().unwrap().len() as u64;
    let store = Store { now: tick, ..Store::open(directory.path(), 3 * each + each / 2).unwrap() };
    for name in ["a", "b", "c"] {
        store.put(&large(name, 1_000), None).unwrap();
    }
    store.by_chain(&chain("a")).unwrap().unwrap();
    store.put(&large("d", 1_000), None).unwrap();
    assert_eq!(names(&store), ["a", "c", "d"]);
    assert!(store.by_manifest(&Digest::sha256(b"b")).unwrap().is_none());
    // The newest one stays, though it alone exceeds the limit.
    store.put(&large("huge", 9_000), None).unwrap();
    assert_eq!(names(&store), ["huge"]);
}

#[test]
fn removed_bundles_free_their_space() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path(), LIMIT).unwrap();
    let each = large("0", 10_000).to_bytes().unwrap().len() as u64;
    for n in 0..5 {
        store.put(&large(&format!("{n}"), 10_000), None).unwrap();
    }
    let family = store.view.family(BUNDLES);
    store.view.database.flush_cf(family).unwrap();
    let size = || store.view.database.property_int_value_cf(family, "rocksdb.total-sst-files-size").unwrap().unwrap();
    assert!(size() > 4 * each, "{} bytes for 5 bundles of {each}", size());
    store.remove(&[0, 1, 2, 3].map(|n: u32| chain(&n.to_string()))).unwrap();
    assert!(size() < 2 * each, "{} bytes for one bundle of {each}", size());
}

#[test]
fn retain_removes_by_image_and_last_use() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store { now: tick, ..Store::open(directory.path(), LIMIT).unwrap() };
    for name in ["a", "b", "c"] {
        store.put(&bundle(name, Some(name)), None).unwrap();
    }
    let put = tick();
    store.by_chain(&chain("b")).unwrap().unwrap();
    assert_eq!(store.retain(|image, _| image.reference != "c").unwrap(), 1);
    assert_eq!(store.retain(|_, used| used > put).unwrap(), 1);
    assert_eq!(store.retain(|_, used| used > UNIX_EPOCH).unwrap(), 0);
    assert_eq!(names(&store), ["b"]);
}

#[test]
fn damaged_bundles_are_removed_and_others_stay() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path(), LIMIT).unwrap();
    let whole = bundle("whole", None);
    let mut flipped = whole.to_bytes().unwrap();
    flipped[20] ^= 1;
    for (name, bytes) in [("flipped", flipped), ("empty", vec![]), ("other", whole.to_bytes().unwrap())] {
        store.put(&whole, None).unwrap();
        store.put(&bundle(name, Some(name)), None).unwrap();
        damage(&store, name, &bytes);
        let listed = store.list(|stored| stored.bundle.clone()).unwrap();
        assert_eq!((listed.bundles, listed.damaged), (vec![whole.clone()], 1), "{name}");
        assert_eq!(store.list(|_| ()).unwrap().damaged, 0, "{name}");
        assert!(store.view.manifests().unwrap().is_empty() && store.view.facts().unwrap().len() == 1, "{name}");
        // A lookup reports the damage once.
        store.put(&bundle(name, Some(name)), None).unwrap();
        damage(&store, name, &bytes);
        assert!(matches!(store.by_chain(&chain(name)), Err(StoreError::Bundle { .. })), "{name}");
        assert_eq!(store.by_chain(&chain(name)).unwrap(), None, "{name}");
    }
}

#[test]
fn one_process_writes_while_others_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    assert!(matches!(View::open(&path), Err(StoreError::Absent { .. })));
    let store = Store::open(&path, LIMIT).unwrap();
    store.put(&bundle("one", Some("one")), None).unwrap();
    let second = Store::open(&path, LIMIT).unwrap_err();
    assert!(matches!(second, StoreError::InUse { .. }) && second.to_string().contains("stop the daemon"), "{second}");
    let view = View::open(&path).unwrap();
    assert_eq!(view.by_manifest(&Digest::sha256(b"one")).unwrap().unwrap().bundle, bundle("one", Some("one")));
    store.put(&bundle("two", None), None).unwrap();
    let mut seen = 0;
    View::open(&path).unwrap().each(|_, found| seen += usize::from(found.is_ok())).unwrap();
    assert_eq!(seen, 2);
}

#[test]
fn newer_layouts_are_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = Store::open(directory.path(), LIMIT).unwrap();
    store.view.database.create_cf("of the future", &Options::default()).unwrap();
    store.view.database.put(SCHEMA_KEY, (SCHEMA + 1).to_le_bytes()).unwrap();
    drop(store);
    for error in [Store::open(directory.path(), LIMIT).unwrap_err(), View::open(directory.path()).unwrap_err()] {
        let message = error.to_string();
        assert!(message.contains(&format!("layout {}", SCHEMA + 1)) && message.contains("upgrade"), "{message}");
    }
}

/// Creates a store of layout 1: two column families, with bundle files of format 1 (and one of format 2, from
/// the last program of that layout).
fn create_layout_1(path: &Path) {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    let database = DB::open_cf(&options, path, [BUNDLES, MANIFESTS]).unwrap();
    database.put(SCHEMA_KEY, 1u32.to_le_bytes()).unwrap();
    let format_1 = Format { major: 1, ..FORMAT };
    let put = |name: &str, bytes: Vec<u8>| {
        let (bundles, manifests) = (database.cf_handle(BUNDLES).unwrap(), database.cf_handle(MANIFESTS).unwrap());
        database.put_cf(bundles, chain(name).0.as_bytes(), bytes).unwrap();
        database.put_cf(manifests, Digest::sha256(name.as_bytes()).as_bytes(), chain(name).0.as_bytes()).unwrap();
    };
    for name in ["a", "b"] {
        put(name, format_1.wrap(b"chain, names, repository, traces, objects").unwrap());
    }
    put("c", bundle("c", Some("c")).to_bytes().unwrap());
}

#[test]
fn layout_1_is_migrated_without_unreadable_bundles() {
    let directory = tempfile::tempdir().unwrap();
    create_layout_1(directory.path());
    assert!(matches!(View::open(directory.path()), Err(StoreError::Older { found: 1, .. })));
    for _ in 0..2 {
        let store = Store::open(directory.path(), LIMIT).unwrap();
        assert_eq!(store.view.database.get(SCHEMA_KEY).unwrap().unwrap(), SCHEMA.to_le_bytes());
        let listed = store.list(|stored| stored.bundle.clone()).unwrap();
        assert_eq!((listed.bundles, listed.damaged), (vec![bundle("c", Some("c"))], 0));
        assert_eq!(store.view.manifests().unwrap(), [(Digest::sha256(b"c"), chain("c"))]);
        assert_eq!(store.by_manifest(&Digest::sha256(b"a")).unwrap(), None);
    }
    assert!(View::open(directory.path()).unwrap().by_chain(&chain("c")).unwrap().is_some());
}

#[test]
fn changes_are_synced_before_they_return() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = layout::options();
    options.enable_statistics();
    let store = Store::open_with(&options, directory.path(), LIMIT).unwrap();
    let syncs = || {
        let all = options.get_statistics().unwrap();
        let line = all.lines().find_map(|line| line.strip_prefix("rocksdb.wal.synced COUNT : ")).unwrap();
        line.parse::<u64>().unwrap()
    };
    let (one, mut before) = (bundle("one", None), syncs());
    let mut synced = |what: &str| {
        let now = syncs();
        assert!(now > before, "{what}");
        before = now;
    };
    for _ in 0..5 {
        store.put(&one, None).unwrap();
        synced("put");
    }
    store.remove(&[one.image.chain_id]).unwrap();
    synced("remove");
    // Uses are not synced; this also shows that the test can see the difference.
    store.put(&one, None).unwrap();
    let before = syncs();
    store.by_chain(&one.image.chain_id).unwrap().unwrap();
    assert_eq!(syncs(), before);
}

#[test]
fn published_packs_live_as_long_as_their_bundle() {
    use crate::object::ObjectKind;
    use crate::pack::{PackPart, PublishedPack};
    let directory = tempfile::tempdir().unwrap();
    let part = |start| PackPart {
        hash: ContentHash::sha1_of(b"part"),
        kind: ObjectKind::Chunk,
        start,
        raw_size: 7,
        compressed: true,
    };
    let places = vec![(Digest::sha256(b"pack"), PublishedPack { parts: vec![part(0), part(7)] })];
    {
        let store = Store::open(directory.path(), LIMIT).unwrap();
        store.put_published_packs(&chain("one"), &places).unwrap();
        store.put(&bundle("one", None), None).unwrap();
        assert_eq!(store.by_chain(&chain("one")).unwrap().unwrap().published_packs, [], "of no bundle");
        store.put_published_packs(&chain("one"), &places).unwrap();
    }
    let store = Store::open(directory.path(), LIMIT).unwrap();
    assert_eq!(store.by_chain(&chain("one")).unwrap().unwrap().published_packs, places);
    // A new bundle has other packs.
    store.put(&bundle("one", Some("m")), None).unwrap();
    assert_eq!(store.by_chain(&chain("one")).unwrap().unwrap().published_packs, []);
    store.put_published_packs(&chain("one"), &places).unwrap();
    store.remove(&[chain("one")]).unwrap();
    store.put_published_packs(&chain("one"), &places).unwrap();
    let of = |name| store.view.database.get_cf(store.view.family(PLACES), chain(name).0.as_bytes()).unwrap();
    assert_eq!(of("one"), None);
    // An unreadable list counts as none.
    store.put(&bundle("two", None), None).unwrap();
    store.view.database.put_cf(store.view.family(PLACES), chain("two").0.as_bytes(), b"x").unwrap();
    assert_eq!(store.by_chain(&chain("two")).unwrap().unwrap().published_packs, []);
}

#[test]
fn what_is_wrong_with_a_bundle_holds_until_another_one_comes() {
    let directory = tempfile::tempdir().unwrap();
    let open = || Store { now: tick, ..Store::open(directory.path(), LIMIT).unwrap() };
    let store = open();
    let one = bundle("one", Some("one"));
    let version = |version: &str| Some(Origin::Repository { mount: "/m".into(), version: version.into() });
    let is_bad = |facts: Facts| facts.bad_at(tick()).map(|bad| bad.reason);
    assert_eq!(store.begin_delivery(&chain("one"), 0).unwrap(), None);
    assert_eq!(is_bad(store.put(&one, version("a")).unwrap()), None);
    assert_eq!(is_bad(store.begin_delivery(&chain("one"), 0).unwrap().unwrap()), None);
    store.end_delivery(&chain("one"), Some(BadReason::ObjectsMissing)).unwrap();
    drop(store);
    let store = open();
    let stored = || store.file_by_chain(&chain("one")).unwrap().unwrap().facts;
    assert_eq!(is_bad(store.begin_delivery(&chain("one"), 0).unwrap().unwrap()), Some(BadReason::ObjectsMissing));
    // The same one again is as bad, another one is not.
    assert_eq!(is_bad(store.put(&one, version("a")).unwrap()), Some(BadReason::ObjectsMissing));
    assert_eq!((is_bad(store.put(&one, version("b")).unwrap()), is_bad(stored())), (None, None));
    store.end_delivery(&chain("one"), Some(BadReason::ObjectsMissing)).unwrap();
    assert_eq!(is_bad(store.put(&one, None).unwrap()), None);
    store.end_delivery(&chain("one"), Some(BadReason::ObjectsMissing)).unwrap();
    assert_eq!(is_bad(store.put(&one, None).unwrap()), None, "an imported one may be another each time");
}

#[test]
fn a_bundle_that_takes_all_memory_again_and_again_is_bad() {
    let directory = tempfile::tempdir().unwrap();
    let name = chain("one");
    Store::open(directory.path(), LIMIT).unwrap().put(&bundle("one", None), None).unwrap();
    // Each life of the daemon begins with a count of the kernel, and ends without a record of the delivery's end unless `ends`.
    let lives = |count: u64, ends: bool| {
        let store = Store { now: tick, ..Store::open(directory.path(), LIMIT).unwrap() };
        let facts = store.begin_delivery(&name, count).unwrap().unwrap();
        if ends {
            store.end_delivery(&name, None).unwrap();
        }
        facts.bad_at(tick()).map(|bad| bad.reason)
    };
    // Killed by a person, and by a restart of the machine: the kernel did not do it.
    for count in [5, 5, 5, 0, 0] {
        assert_eq!(lives(count, false), None, "{count}");
    }
    // Once for its memory, then one that ends clears it of suspicion.
    assert_eq!((lives(1, true), lives(2, false), lives(3, false)), (None, None, None));
    for count in [4, 4, 9] {
        assert_eq!(lives(count, false), Some(BadReason::OutOfMemory), "{count}");
    }
}

#[test]
fn layout_3_is_migrated_with_its_facts() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path(), LIMIT).unwrap();
    for name in ["imported", "published", "damaged"] {
        store.put(&bundle(name, Some(name)), None).unwrap();
    }
    let put = |name: &str, origin: &[u8]| {
        let facts = [&7u64.to_le_bytes()[..], &1_000_000u64.to_le_bytes(), origin].concat();
        store.view.database.put_cf(store.view.family(FACTS), chain(name).0.as_bytes(), facts).unwrap();
    };
    put("imported", b"");
    put("published", b"/cvmfs/a.b\0hash x");
    put("damaged", b"/cvmfs/a.b");
    store.view.database.put(SCHEMA_KEY, 3u32.to_le_bytes()).unwrap();
    drop(store);
    let store = Store::open(directory.path(), LIMIT).unwrap();
    let facts = |name: &str| store.view.facts_of(&chain(name)).unwrap();
    let used = UNIX_EPOCH + Duration::from_secs(1);
    let origin = Origin::Repository { mount: "/cvmfs/a.b".into(), version: "hash x".into() };
    assert_eq!(facts("imported"), Some(Facts::new(7, used, None)));
    assert_eq!(facts("published"), Some(Facts::new(7, used, Some(origin))));
    assert_eq!(facts("damaged"), None);
    assert_eq!(store.list(|stored| stored.bundle.image.reference.clone()).unwrap().damaged, 1);
}
