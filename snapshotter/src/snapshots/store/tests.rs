#![allow(clippy::unwrap_used)]
use super::*;
use crate::snapshots::state::NewSnapshot;
use crate::snapshots::{Content, CvmfsLayer, Kind, Snapshot};
use crate::whiteouts::Whiteouts;
use std::time::SystemTime;

fn add(store: &Arc<Store>, key: &str) -> u64 {
    let reservation = store.reserve();
    let new = NewSnapshot {
        id: reservation.id(),
        kind: Kind::Active,
        parent: None,
        labels: [("label".to_owned(), "välue".to_owned())].into(),
        content: Content::Local,
        now: SystemTime::now(),
    };
    store.update(|state| Ok::<_, StoreError>((state.create(key, new).unwrap(), ()))).unwrap();
    reservation.id()
}

#[test]
fn acknowledged_changes_survive_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(directory.path()).unwrap());
    add(&store, "a");
    let last = add(&store, "b");
    let before = store.read(|state| state.get("a").unwrap().clone());
    store.update(|state| Ok::<_, StoreError>((state.remove("b").unwrap().0, ()))).unwrap();
    drop(store);
    let store = Arc::new(Store::open(directory.path()).unwrap());
    assert_eq!(store.read(|state| state.get("a").unwrap().clone()), before);
    assert!(store.read(|state| state.get("b").is_err()));
    assert!(add(&store, "c") > last);
}

#[test]
fn a_reserved_id_counts_as_used() {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(directory.path()).unwrap());
    let reservation = store.reserve();
    let id = reservation.id();
    assert!(store.used_ids().contains(&id));
    drop(reservation);
    assert!(!store.used_ids().contains(&id));
    let id = add(&store, "a");
    assert!(store.used_ids().contains(&id));
}

/// Opens a database that has this record of the snapshot "a", and a readable one of "b".
fn open_with(directory: &Path, record: &[u8]) -> Arc<Store> {
    let store = Arc::new(Store::open(directory).unwrap());
    add(&store, "b");
    store.db.with(|db| Ok(db.put_cf(family(db, SNAPSHOTS)?, "a", record)?)).unwrap();
    drop(store);
    Arc::new(Store::open(directory).unwrap())
}

fn snapshot() -> Snapshot {
    Snapshot {
        id: 1,
        kind: Kind::Active,
        parent: None,
        labels: [("label".to_owned(), "value".to_owned())].into(),
        created: SystemTime::UNIX_EPOCH,
        updated: SystemTime::UNIX_EPOCH,
        usage: Default::default(),
        content: Content::Local,
    }
}

#[test]
fn a_damaged_record_is_left_out_and_kept_until_it_is_removed_or_replaced() {
    let record = SNAPSHOT.seal(&snapshot()).unwrap();
    // A byte of the magic, the version, the size, the payload and the checksum; and a record of another kind.
    let mut unreadable: Vec<Vec<u8>> = Vec::new();
    for at in [0, 4, 8, 20, record.len() - 1] {
        let mut damaged = record.clone();
        damaged[at] ^= 0x55;
        unreadable.push(damaged);
    }
    unreadable.push(LAYER.seal(&snapshot()).unwrap());
    for record in unreadable {
        let directory = tempfile::tempdir().unwrap();
        let store = open_with(directory.path(), &record);
        assert_eq!(store.damaged(), ["a"]);
        assert!(store.read(|state| state.get("a").is_err() && state.get("b").is_ok()));
        let kept = || store.db.with(|db| Ok(db.get_cf(family(db, SNAPSHOTS)?, "a")?)).unwrap();
        assert_eq!(kept().unwrap(), record);
        assert!(!store.forget_damaged("b").unwrap());
        assert!(store.forget_damaged("a").unwrap());
        assert!(store.damaged().is_empty() && kept().is_none());
    }
    let directory = tempfile::tempdir().unwrap();
    let store = open_with(directory.path(), b"rubbish");
    add(&store, "a");
    assert!(store.damaged().is_empty() && store.read(|state| state.get("a").is_ok()));
    drop(store);
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(open_with(directory.path(), &record).read(|state| state.get("a").unwrap().clone()), snapshot());
}

#[test]
fn the_scan_of_a_layer_is_forgotten_with_its_last_snapshot() {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(directory.path()).unwrap());
    let digest = Digest::sha256(b"layer");
    let scan =
        LayerScan { owner: (0, 0), whiteouts: Whiteouts::default(), is_from_bundle: true, diff_id: Some(digest) };
    store.put_layer_scan("a.org", &digest, &scan).unwrap();
    let layer = CvmfsLayer {
        repository: "a.org".to_owned(),
        digest,
        layerfs: "/layerfs".into(),
        owner: (0, 0),
        companion_above: false,
        companion_below: false,
    };
    for name in ["one", "two"] {
        let put = Some((name.to_owned(), Snapshot { content: Content::Cvmfs(layer.clone()), ..snapshot() }));
        store.update(|_| Ok::<_, StoreError>((Change { remove: None, put }, ()))).unwrap();
    }
    assert_eq!(store.unconfirmed_layers("a.org"), [digest]);
    assert!(store.unconfirmed_layers("b.org").is_empty());
    for (name, is_kept) in [("one", true), ("two", false)] {
        store.update(|state| Ok::<_, StoreError>((state.remove(name).unwrap().0, ()))).unwrap();
        store.forget_unused_layer("a.org", &digest).unwrap();
        assert_eq!(store.layer_scan("a.org", &digest).unwrap().is_some(), is_kept, "{name}");
    }
    // One that never had a snapshot is forgotten at the next start.
    store.put_layer_scan("a.org", &digest, &scan).unwrap();
    drop(store);
    assert!(Store::open(directory.path()).unwrap().layer_scan("a.org", &digest).unwrap().is_none());
}

#[test]
fn a_newer_schema_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    store.db.with(|db| Ok(db.put(SCHEMA_KEY, (SCHEMA + 1).to_le_bytes())?)).unwrap();
    drop(store);
    let error = Store::open(directory.path()).unwrap_err().to_string();
    assert!(error.contains("upgrade"), "{error}");
}
