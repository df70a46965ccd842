use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use rocksdb::DB;

use super::layout::{SCHEMA, SCHEMA_KEY};
use super::*;
use crate::bundle::{BundleObject, FORMAT};
use crate::codec::Format;
use crate::object::ContentHash;
use crate::path::RootPath;

mod kill;

const LIMIT: u64 = DEFAULT_LIMIT;

fn chain(name: &str) -> ChainId {
    ChainId(Digest::of(name.as_bytes()))
}

fn bundle(name: &str, manifest: Option<&str>) -> Bundle {
    let manifest = manifest.map(|m| Digest::of(m.as_bytes()));
    let image = ImageId { chain_id: chain(name), manifest, reference: name.to_owned() };
    Bundle::of(image, "unpacked.example.org")
}

/// A bundle of `count` objects, whose hashes do not compress.
fn large(name: &str, count: u32) -> Bundle {
    let object = |n: u32| {
        let hash = ContentHash::sha1_of(format!("{name} {n}").as_bytes());
        BundleObject::file(hash, 1, RootPath::new(format!("/{n}")).unwrap())
    };
    Bundle { objects: (0..count).map(object).collect(), ..bundle(name, Some(name)) }
}

fn names(store: &Store) -> Vec<String> {
    let mut names = store.list(|stored| stored.bundle.image.reference.clone()).unwrap().bundles;
    names.sort();
    names
}

/// Puts bytes where a bundle should be.
fn spoil(store: &Store, name: &str, bytes: &[u8]) {
    store.view.database.put_cf(store.view.family(BUNDLES), chain(name).0.as_bytes(), bytes).unwrap();
}

#[test]
fn bundles_are_found_by_both_names_also_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let (one, two) = (bundle("one", Some("m1")), bundle("two", None));
    let origin = Origin { mount: "/cvmfs/a.b".into(), version: "hash x".into() };
    {
        let store = Store::open(directory.path(), LIMIT).unwrap();
        store.put(&one, Some(origin.clone())).unwrap();
        store.put(&two, None).unwrap();
    }
    let store = Store::open(directory.path(), LIMIT).unwrap();
    let found = store.by_chain(&chain("one")).unwrap().unwrap();
    assert_eq!((found.bundle, found.facts.origin), (one.clone(), Some(origin)));
    assert_eq!(store.by_chain(&chain("two")).unwrap().unwrap().bundle, two);
    assert_eq!(store.by_manifest(&Digest::of(b"m1")).unwrap().unwrap().bundle, one);
    assert_eq!(store.by_manifest(&Digest::of(b"m2")).unwrap(), None);
    assert_eq!(store.remove(&[chain("one"), chain("none")]).unwrap(), 1);
    assert_eq!(store.remove(&[chain("one")]).unwrap(), 0);
    assert_eq!(store.by_manifest(&Digest::of(b"m1")).unwrap(), None);
    assert_eq!(names(&store), ["two"]);
    assert!(store.view.manifests().unwrap().is_empty() && store.view.facts().unwrap().len() == 1);
    let bytes = two.to_bytes().unwrap().len() as u64;
    assert_eq!(store.usage().unwrap(), Usage { bundles: 1, bytes });
}

#[test]
fn a_store_over_its_limit_loses_what_was_not_used_for_longest() {
    let directory = tempfile::tempdir().unwrap();
    let each = large("a", 1_000).to_bytes().unwrap().len() as u64;
    let store = Store::open(directory.path(), 3 * each + each / 2).unwrap();
    for name in ["a", "b", "c"] {
        store.put(&large(name, 1_000), None).unwrap();
    }
    store.by_chain(&chain("a")).unwrap().unwrap();
    store.put(&large("d", 1_000), None).unwrap();
    assert_eq!(names(&store), ["a", "c", "d"]);
    assert!(store.by_manifest(&Digest::of(b"b")).unwrap().is_none());
    // The one just put stays, though it is alone over the limit.
    store.put(&large("huge", 9_000), None).unwrap();
    assert_eq!(names(&store), ["huge"]);
}

#[test]
fn what_goes_gives_its_room_back() {
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
fn what_is_not_wanted_any_more_goes() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path(), LIMIT).unwrap();
    for name in ["a", "b", "c"] {
        store.put(&bundle(name, Some(name)), None).unwrap();
    }
    let put = SystemTime::now();
    std::thread::sleep(Duration::from_millis(1));
    store.by_chain(&chain("b")).unwrap().unwrap();
    assert_eq!(store.retain(|image, _| image.reference != "c").unwrap(), 1);
    assert_eq!(store.retain(|_, used| used > put).unwrap(), 1);
    assert_eq!(store.retain(|_, used| used > UNIX_EPOCH).unwrap(), 0);
    assert_eq!(names(&store), ["b"]);
}

#[test]
fn a_damaged_bundle_is_no_error_for_the_others_and_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path(), LIMIT).unwrap();
    let whole = bundle("whole", None);
    let mut flipped = whole.to_bytes().unwrap();
    flipped[20] ^= 1;
    for (name, bytes) in [("flipped", flipped), ("empty", vec![]), ("other", whole.to_bytes().unwrap())] {
        store.put(&whole, None).unwrap();
        store.put(&bundle(name, Some(name)), None).unwrap();
        spoil(&store, name, &bytes);
        let listed = store.list(|stored| stored.bundle.clone()).unwrap();
        assert_eq!((listed.bundles, listed.damaged), (vec![whole.clone()], 1), "{name}");
        assert_eq!(store.list(|_| ()).unwrap().damaged, 0, "{name}");
        assert!(store.view.manifests().unwrap().is_empty() && store.view.facts().unwrap().len() == 1, "{name}");
        // Asked for by name it is told once.
        store.put(&bundle(name, Some(name)), None).unwrap();
        spoil(&store, name, &bytes);
        assert!(matches!(store.by_chain(&chain(name)), Err(StoreError::Bundle { .. })), "{name}");
        assert_eq!(store.by_chain(&chain(name)).unwrap(), None, "{name}");
    }
}

#[test]
fn one_process_writes_and_others_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    assert!(matches!(View::open(&path), Err(StoreError::Absent { .. })));
    let store = Store::open(&path, LIMIT).unwrap();
    store.put(&bundle("one", Some("one")), None).unwrap();
    let second = Store::open(&path, LIMIT).unwrap_err();
    assert!(matches!(second, StoreError::InUse { .. }) && second.to_string().contains("stop the daemon"), "{second}");
    let view = View::open(&path).unwrap();
    assert_eq!(view.by_manifest(&Digest::of(b"one")).unwrap().unwrap().bundle, bundle("one", Some("one")));
    store.put(&bundle("two", None), None).unwrap();
    let mut seen = 0;
    View::open(&path).unwrap().each(|_, found| seen += usize::from(found.is_ok())).unwrap();
    assert_eq!(seen, 2);
}

#[test]
fn a_newer_layout_is_refused_by_name_and_not_touched() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = Store::open(directory.path(), LIMIT).unwrap();
    store.view.database.create_cf("of the future", &Options::default()).unwrap();
    store.view.database.put(SCHEMA_KEY, (SCHEMA + 1).to_le_bytes()).unwrap();
    drop(store);
    for error in [Store::open(directory.path(), LIMIT).unwrap_err(), View::open(directory.path()).unwrap_err()] {
        let said = error.to_string();
        assert!(said.contains(&format!("layout {}", SCHEMA + 1)) && said.contains("upgrade"), "{said}");
    }
}

/// A store as layout 1 was: two families, and bundle files of format 1 (and one of 2, of the last such program).
fn of_layout_1(path: &Path) {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    let database = DB::open_cf(&options, path, [BUNDLES, MANIFESTS]).unwrap();
    database.put(SCHEMA_KEY, 1u32.to_le_bytes()).unwrap();
    let format_1 = Format { major: 1, ..FORMAT };
    let put = |name: &str, bytes: Vec<u8>| {
        let (bundles, manifests) = (database.cf_handle(BUNDLES).unwrap(), database.cf_handle(MANIFESTS).unwrap());
        database.put_cf(bundles, chain(name).0.as_bytes(), bytes).unwrap();
        database.put_cf(manifests, Digest::of(name.as_bytes()).as_bytes(), chain(name).0.as_bytes()).unwrap();
    };
    for name in ["a", "b"] {
        put(name, format_1.wrap(b"chain, names, repository, traces, objects").unwrap());
    }
    put("c", bundle("c", Some("c")).to_bytes().unwrap());
}

#[test]
fn a_store_of_layout_1_is_updated_and_loses_what_can_no_longer_be_read() {
    let directory = tempfile::tempdir().unwrap();
    of_layout_1(directory.path());
    assert!(matches!(View::open(directory.path()), Err(StoreError::Older { found: 1, .. })));
    for _ in 0..2 {
        let store = Store::open(directory.path(), LIMIT).unwrap();
        assert_eq!(store.view.database.get(SCHEMA_KEY).unwrap().unwrap(), SCHEMA.to_le_bytes());
        let listed = store.list(|stored| stored.bundle.clone()).unwrap();
        assert_eq!((listed.bundles, listed.damaged), (vec![bundle("c", Some("c"))], 0));
        assert_eq!(store.view.manifests().unwrap(), [(Digest::of(b"c"), chain("c"))]);
        assert_eq!(store.by_manifest(&Digest::of(b"a")).unwrap(), None);
    }
    assert!(View::open(directory.path()).unwrap().by_chain(&chain("c")).unwrap().is_some());
}

#[test]
fn every_change_is_synced_before_it_is_acknowledged() {
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
    // What is not to be synced is not, or this test would not see the difference.
    store.put(&one, None).unwrap();
    let before = syncs();
    store.by_chain(&one.image.chain_id).unwrap().unwrap();
    assert_eq!(syncs(), before);
}

#[test]
fn places_of_packs_stay_with_their_bundle() {
    use crate::object::ObjectKind;
    use crate::pack::{PackPart, PackPlace};
    let directory = tempfile::tempdir().unwrap();
    let part = |start| PackPart {
        hash: ContentHash::sha1_of(b"part"),
        kind: ObjectKind::Chunk,
        start,
        raw_size: 7,
        compressed: true,
    };
    let places = vec![(Digest::of(b"pack"), PackPlace { parts: vec![part(0), part(7)] })];
    {
        let store = Store::open(directory.path(), LIMIT).unwrap();
        store.put_places(&chain("one"), &places).unwrap();
        store.put(&bundle("one", None), None).unwrap();
        assert_eq!(store.by_chain(&chain("one")).unwrap().unwrap().places, [], "of no bundle");
        store.put_places(&chain("one"), &places).unwrap();
    }
    let store = Store::open(directory.path(), LIMIT).unwrap();
    assert_eq!(store.by_chain(&chain("one")).unwrap().unwrap().places, places);
    // Those of another bundle are others.
    store.put(&bundle("one", Some("m")), None).unwrap();
    assert_eq!(store.by_chain(&chain("one")).unwrap().unwrap().places, []);
    store.put_places(&chain("one"), &places).unwrap();
    store.remove(&[chain("one")]).unwrap();
    store.put_places(&chain("one"), &places).unwrap();
    let of = |name| store.view.database.get_cf(store.view.family(PLACES), chain(name).0.as_bytes()).unwrap();
    assert_eq!(of("one"), None);
    // What cannot be read is looked for again, and costs nothing else.
    store.put(&bundle("two", None), None).unwrap();
    store.view.database.put_cf(store.view.family(PLACES), chain("two").0.as_bytes(), b"x").unwrap();
    assert_eq!(store.by_chain(&chain("two")).unwrap().unwrap().places, []);
}
