use super::*;
use crate::bundle::{Bundle, BundleObject, ObjectIndex, PackRef, ProfileSet, Share};
use crate::codec::FormatError;
use crate::image::{ChainId, Digest, ImageId};
use crate::object::{ContentHash, ObjectKind};
use crate::path::RootPath;

/// The bytes of a pack file with these objects.
fn file(contents: &[&[u8]]) -> Vec<u8> {
    let objects: Vec<_> = contents.iter().map(|content| index::PackedObject::file(content, 7)).collect();
    assemble(&objects, contents).unwrap().0
}

fn write(directory: &std::path::Path, content: &[u8]) -> std::path::PathBuf {
    let path = directory.join(file_name(&Digest::sha256(content)));
    std::fs::write(&path, content).unwrap();
    path
}

#[test]
fn single_objects_are_read_by_offset() {
    let directory = tempfile::tempdir().unwrap();
    let contents: [&[u8]; 4] = [b"one", b"", b"three", b"4"];
    let content = file(&contents);
    let pack = PackFile::open(&write(directory.path(), &content)).unwrap();
    assert_eq!(*pack.reference(), PackRef { digest: Digest::sha256(&content), size: content.len() as u64 });
    for (object, expected) in pack.index().objects().iter().zip(contents).rev() {
        assert_eq!(pack.object(object).unwrap(), expected);
    }
    assert_eq!(PackFile::all_below(directory.path()).unwrap().len(), 1);
    assert_eq!(PackFile::all_below(&directory.path().join("none")).unwrap().len(), 0);
}

#[test]
fn truncated_or_changed_packs_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let content = file(&[b"one", b"two"]);
    let path = write(directory.path(), &content);
    for cut in 0..content.len() {
        std::fs::write(&path, &content[..cut]).unwrap();
        assert!(PackFile::open(&path).is_err(), "cut at {cut}");
    }
    for at in 0..content.len() {
        let mut changed = content.clone();
        changed[at] ^= 0x55;
        std::fs::write(&path, &changed).unwrap();
        assert!(PackFile::open(&path).is_err(), "byte {at}");
    }
    // With a matching file name, the object's own hash reveals the change.
    let mut changed = content;
    *changed.last_mut().unwrap() ^= 1;
    let pack = PackFile::open(&write(directory.path(), &changed)).unwrap();
    let objects = pack.index().objects();
    assert!(pack.object(&objects[0]).is_ok() && pack.object(&objects[1]).is_err());
}

#[test]
fn oversized_or_newer_indexes_are_refused() {
    let mut claimed = file(&[b"one"]);
    claimed[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(matches!(Index::extent(&claimed), Err(FormatError::TooLarge { .. })));
    let huge = index::PackedObject { stored_size: MAX_OBJECT + 1, ..index::PackedObject::file(b"one", 7) };
    assert!(Index::head(&[huge]).is_err());
    let mut newer = file(&[b"one"]);
    newer[4] = 2;
    assert!(matches!(Index::from_bytes(&newer), Err(FormatError::Newer { .. })));
}

/// An object of a layer with `size` stored bytes.
fn object(layer: u8, name: &str, size: u64) -> BundleObject {
    let digest = hex::encode([layer; 32]);
    let path = RootPath::new(format!("/.layers/{}/{digest}/layerfs/{name}", &digest[..2])).unwrap();
    BundleObject { stored_size: size, ..BundleObject::file(ContentHash::sha1_of(path.as_bytes()), size, path) }
}

fn bundle(objects: Vec<BundleObject>) -> Bundle {
    let image = ImageId { chain_id: ChainId(Digest::sha256(b"x")), manifest: None, reference: String::new() };
    Bundle { objects, ..Bundle::new(image, "a.b") }
}

const LIMITS: PackLimits = PackLimits { max_object: 100, min_pack: 50, max_pack: 200, min_reuse: Share::ALL };

fn indices(pack: &[u32]) -> Vec<ObjectIndex> {
    pack.iter().map(|index| ObjectIndex::new(*index)).collect()
}

#[test]
fn small_objects_are_packed_by_profile_and_layer() {
    let catalog = BundleObject { kind: ObjectKind::Catalog, ..object(1, "catalog", 10) };
    let elsewhere = BundleObject { repository: 1, ..object(1, "elsewhere", 10) };
    let only_fit = |name: &str| {
        let object = object(1, name, 40);
        let need = crate::bundle::Need { profiles: ProfileSet::default().and(0), ..object.need };
        BundleObject { need, ..object }
    };
    let objects = vec![
        catalog,
        object(1, "a", 60),
        object(2, "b", 20),
        object(1, "large", 101),
        object(3, "c", 20),
        object(1, "d", 60),
        elsewhere,
        object(1, "e", 100),
        only_fit("f"),
        only_fit("g"),
        object(1, "h", 100),
    ];
    let plan = plan(&bundle(objects), &[], &LIMITS);
    // Layers 2 and 3 are too small for packs of their own; a pack of layer 1 is full; objects of one profile
    // only are apart.
    assert_eq!(plan.new, [[1, 5], [2, 4], [7, 10], [8, 9]].map(|pack| indices(&pack)));
}

#[test]
fn published_packs_are_reused_if_mostly_needed() {
    let objects = vec![object(1, "a", 60), object(1, "b", 60), object(1, "c", 40), object(1, "d", 40)];
    let published = |objects: &[&BundleObject], more: u64| {
        let packed = |object: &&BundleObject| index::PackedObject {
            hash: object.hash,
            kind: object.kind,
            offset: 0,
            stored_size: object.stored_size,
            raw_size: object.raw_size,
        };
        let mut packed: Vec<_> = objects.iter().map(packed).collect();
        packed.push(index::PackedObject { stored_size: more, ..index::PackedObject::file(b"another", 7) });
        let (head, index) = Index::head(&packed).unwrap();
        (PackRef { digest: Digest::sha256(&head), size: index.file_size() }, index)
    };
    let published =
        [published(&[&objects[0]], 60), published(&[&objects[2]], 8), published(&[&objects[0], &objects[1]], 12)];
    let limits = PackLimits { min_reuse: Share::ratio(9, 10), ..LIMITS };
    let bundle = bundle(objects);
    assert_eq!(plan(&bundle, &published, &limits), PackPlan { reused: vec![2], new: vec![indices(&[2, 3])] });
    let all = PackLimits { min_reuse: Share::ratio(8, 10), ..limits };
    assert_eq!(plan(&bundle, &published, &all), PackPlan { reused: vec![2, 1], new: vec![] });
}
