use super::*;
use crate::image::{ChainId, Digest};
use crate::object::{ContentHash, HashAlgorithm, ObjectKind};
use crate::path::RootPath;
use crate::phase::Phase;

fn image(name: &str) -> ImageId {
    ImageId { chain_id: ChainId(Digest::sha256(name.as_bytes())), manifest: None, reference: format!("r/{name}:t") }
}

fn path(text: &str) -> RootPath {
    RootPath::new(text).unwrap()
}

/// A bundle that uses every part of the format.
fn bundle() -> Bundle {
    let file = BundleObject {
        stored_size: 70,
        packed: Some(PackLocation { pack: PackIndex::new(0), offset: 500 }),
        ..BundleObject::file(ContentHash::sha1([1; 20]), 100, path("/.layers/ab/x/layerfs/usr/lib/a"))
    };
    let chunk = BundleObject {
        hash: ContentHash { algorithm: HashAlgorithm::Shake128, digest: [2; 20] },
        kind: ObjectKind::Chunk,
        repository: 1,
        offset: 4 << 20,
        path: path("/v6/lib/libCore.so"),
        need: Need {
            used_in: 2,
            share: Share::ratio(2, 3),
            confidence: Share::ratio(4, 5),
            first_us: 10,
            typical_us: 25,
            phase: Phase::Main,
            profiles: ProfileSet::default().and(1),
        },
        packed: Some(PackLocation { pack: PackIndex::new(1), offset: 32 }),
        ..file.clone()
    };
    let next = BundleObject {
        hash: ContentHash::sha1([3; 20]),
        path: path("/.layers/ab/x/layerfs/usr/lib/b"),
        need: Need { profiles: ProfileSet::default().and(0).and(1), ..file.need },
        packed: Some(PackLocation { pack: PackIndex::new(0), offset: 100 }),
        ..file.clone()
    };
    let last =
        BundleObject { packed: None, need: Need { profiles: ProfileSet::default(), ..file.need }, ..next.clone() };
    Bundle {
        repositories: vec!["unpacked.example.org".into(), "sft.example.org".into()],
        traces: 3,
        incomplete_traces: 1,
        objects: vec![file, chunk, next, last],
        profiles: vec![Profile { name: "fit".into(), traces: 2 }, Profile { name: "plot".into(), traces: 1 }],
        catalogs: vec![NeededCatalog { repository: 1, mountpoint: path("/v6") }],
        packs: [b"one", b"two"].map(|bytes| PackRef { digest: Digest::sha256(bytes), size: 1_000 }).into(),
        rebased: Some(Rebased { from: image("old"), unchanged: 3, changed: 1, removed: 0 }),
        layers: vec![layer()],
        skipped: Skipped { rare: 7, ..Skipped::default() },
        ..Bundle::new(image("new"), "")
    }
}

fn layer() -> PublishedLayer {
    let root = WhiteoutDirectory {
        path: path("/"),
        mode: 0o755,
        uid: 0,
        gid: 0,
        mtime: (1_700_000_000, 5),
        whiteouts: vec![CATALOG_MARKER.into()],
    };
    let usr = WhiteoutDirectory {
        path: path("/usr"),
        mode: 0o1777,
        uid: 7,
        mtime: (-1, 0),
        whiteouts: vec![b".wh.\xff".into()],
        ..root.clone()
    };
    PublishedLayer { digest: Digest::sha256(b"layer"), directories: vec![root, usr] }
}

/// The test bundle's file with a changed payload.
fn with_payload(change: impl FnOnce(&mut Vec<u8>)) -> Result<Bundle, FormatError> {
    let mut payload = sections::encode(&bundle()).unwrap();
    change(&mut payload);
    Bundle::from_bytes(&FORMAT.wrap(&payload).unwrap())
}

fn section(number: u16, flags: u16, raw: u32, stored: &[u8]) -> Vec<u8> {
    let mut bytes = [number.to_le_bytes(), flags.to_le_bytes()].concat();
    bytes.extend_from_slice(&(stored.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&raw.to_le_bytes());
    bytes.extend_from_slice(stored);
    bytes
}

#[test]
fn bundles_survive_a_round_trip() {
    let bundle = bundle();
    let bytes = bundle.to_bytes().unwrap();
    assert_eq!(Bundle::from_bytes(&bytes).unwrap(), bundle);
    assert_eq!(Bundle::from_bytes(&bytes).unwrap().to_bytes().unwrap(), bytes);
    let empty = Bundle::new(image("empty"), "a.b");
    assert_eq!(Bundle::from_bytes(&empty.to_bytes().unwrap()).unwrap(), empty);
}

#[test]
fn unknown_sections_are_skipped_unless_required() {
    let read = with_payload(|payload| payload.extend(section(900, 0, 3, b"abc"))).unwrap();
    assert_eq!(read, bundle());
    let refused = with_payload(|payload| payload.extend(section(900, 1, 3, b"abc"))).unwrap_err().to_string();
    assert!(refused.contains("900") && refused.contains("upgrade"), "{refused}");
}

#[test]
fn malformed_sections_are_refused() {
    let zeros = zstd::bulk::compress(&vec![0; 8 << 20], 3).unwrap();
    type Change<'a> = Box<dyn Fn(&mut Vec<u8>) + 'a>;
    let cases: [(&str, Change<'_>); 6] = [
        ("truncated", Box::new(|payload| payload.truncate(payload.len() - 1))),
        ("follows", Box::new(|payload| payload.extend(section(2, 0, 3, b"abc")))),
        ("has no head", Box::new(|payload| payload.clear())),
        ("grows", Box::new(|payload| payload.extend(section(900, 0, 8 << 20, &zeros)))),
        ("section 1", Box::new(|payload| payload[8] += 1)),
        ("truncated", Box::new(|payload| payload[4..8].copy_from_slice(&u32::MAX.to_le_bytes()))),
    ];
    for (expected, change) in cases {
        let message = with_payload(|payload| change(payload)).unwrap_err().to_string();
        assert!(message.contains(expected), "{expected}: {message}");
    }
}

#[test]
fn counts_are_checked_before_memory_is_taken() {
    let list = |count: usize, entry: &[u8]| {
        let raw = [FORMAT.encode(&(count as u64)).unwrap(), entry.repeat(count)].concat();
        (raw.len() as u32, zstd::bulk::compress(&raw, 3).unwrap())
    };
    // Entries of one byte or a few, as a hostile file has them. Only the first of the counted ones is looked at.
    for (number, count, entry) in
        [(3, MAX_PROFILES + 1, &[0, 0][..]), (4, MAX_CATALOGS + 1, &[0, 1, b'/']), (7, layer::MAX_LAYERS + 1, &[0; 33])]
    {
        let (raw, stored) = list(count, entry);
        let only = section(number, 0, raw, &stored);
        let message = Bundle::from_bytes(&FORMAT.wrap(&only).unwrap()).unwrap_err().to_string();
        assert!(message.contains(&format!("a list has {count} entries")), "{number}: {message}");
    }
    // One layer whose root has too many whiteouts with empty names.
    let root = [vec![1], vec![0; 32], vec![1, 1, b'/', 0, 0, 0, 0, 0]].concat();
    let (count, names) = (FORMAT.encode(&(MAX_WHITEOUTS as u64 + 1)).unwrap(), vec![0; MAX_WHITEOUTS + 1]);
    let raw = [root, count, names].concat();
    let only = section(7, 0, raw.len() as u32, &zstd::bulk::compress(&raw, 3).unwrap());
    let message = Bundle::from_bytes(&FORMAT.wrap(&only).unwrap()).unwrap_err().to_string();
    assert!(message.contains(&format!("a list has {} entries", MAX_WHITEOUTS + 1)), "{message}");
}

#[test]
fn a_bundle_that_needs_too_much_memory_is_refused() {
    let long = format!("/{}", "x".repeat(200)).repeat(15);
    let object = |n: u32| {
        let hash = ContentHash::sha1_of(&n.to_le_bytes());
        BundleObject::file(hash, 1, path(&format!("{long}/{n}")))
    };
    let bundle = Bundle { objects: (0..1_000).map(object).collect(), ..bundle() };
    let bytes = bundle.to_bytes().unwrap();
    // The paths share nearly all of their bytes, so the file does not show what they take in memory.
    assert!(bytes.len() < 60_000 && bundle.memory() > 3_000_000, "{} {}", bytes.len(), bundle.memory());
    assert_eq!(Bundle::from_bytes_within(&bytes, 4_000_000).unwrap(), bundle);
    for memory in [0, 100_000, 3_000_000] {
        let message = Bundle::from_bytes_within(&bytes, memory).unwrap_err().to_string();
        assert!(message.contains("takes more memory"), "{memory}: {message}");
    }
}

#[test]
fn dangling_references_are_refused_on_write() {
    let object = |change: fn(&mut BundleObject)| {
        let mut bundle = bundle();
        change(&mut bundle.objects[0]);
        bundle
    };
    for bad in [
        object(|object| object.repository = 2),
        object(|object| object.need.profiles = ProfileSet::default().and(2)),
        object(|object| object.packed = Some(PackLocation { pack: PackIndex::new(2), offset: 0 })),
        Bundle { repositories: vec![], objects: vec![], catalogs: vec![], ..bundle() },
        Bundle { repositories: vec!["localhost".into()], objects: vec![], catalogs: vec![], ..bundle() },
        Bundle { repositories: vec!["a.b".into()], objects: vec![], ..bundle() },
        Bundle { layers: vec![PublishedLayer { directories: vec![], ..layer() }], ..bundle() },
    ] {
        assert!(bad.to_bytes().is_err(), "{bad:?}");
    }
}

#[test]
fn plans_follow_need_within_the_requested_sections() {
    let bundle = bundle();
    for (profile, expected) in [
        (Some("fit"), vec![0, 2, 3]),
        (Some("plot"), vec![0, 1, 2, 3]),
        (None, vec![0, 3, 2, 1]),
        (Some("x"), vec![0, 3, 2, 1]),
    ] {
        let expected: Vec<_> = expected.into_iter().map(ObjectIndex::new).collect();
        assert_eq!(bundle.plan(profile), expected, "{profile:?}");
    }
    // A profile with an empty name is a section like any other; an empty name in a request means no profile.
    let mut nameless = bundle.clone();
    nameless.profiles[0].name.clear();
    assert_eq!(nameless.plan(Some("")), bundle.plan(None));
}

#[test]
fn an_object_takes_less_than_60_bytes() {
    // Realistic without a repository: random hashes and sizes, the paths and times of a Python start.
    let mut random = 7u64;
    let mut next = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        random >> 33
    };
    let objects = (0..5_000u64).map(|n| {
        let digest: Vec<u8> = (0..20).map(|_| next() as u8).collect();
        let raw_size = next() % 60_000;
        let first_us = n * 700 + next() % 500;
        let layer = hex::encode([(n % 7) as u8; 32]);
        let name = format!(
            "/.layers/{}/{layer}/layerfs/usr/lib/python3/dist-packages/p{}/m{}.py",
            &layer[..2],
            n / 40,
            next() % 999
        );
        BundleObject {
            stored_size: raw_size / 3,
            need: Need { first_us, typical_us: first_us + next() % 4_000, ..Need::always(5) },
            packed: Some(PackLocation { pack: PackIndex::new(0), offset: n * 20_000 }),
            ..BundleObject::file(ContentHash::sha1(digest.try_into().unwrap()), raw_size, path(&name))
        }
    });
    let packs = vec![PackRef { digest: Digest::sha256(b"pack"), size: 5_000 * 20_000 }];
    let bundle = Bundle { objects: objects.collect(), packs, ..bundle() };
    let each = bundle.to_bytes().unwrap().len() / bundle.objects.len();
    assert!(each < 60, "{each} bytes an object");
}

#[test]
fn shares_are_parts_of_ten_thousand() {
    for (part, whole, parts, message) in
        [(1, 3, 3_333, "33.3%"), (0, 0, 0, "0.0%"), (9, 3, 10_000, "100.0%"), (u64::MAX, u64::MAX, 10_000, "100.0%")]
    {
        let share = Share::ratio(part, whole);
        assert_eq!((share.parts(), share.to_string().as_str()), (parts, message));
    }
    assert_eq!(Share::from_parts(10_001), None);
    assert_eq!(Share::ratio(1, 2).times(Share::ratio(1, 2)), Share::ratio(1, 4));
}
