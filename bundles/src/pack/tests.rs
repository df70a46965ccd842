use super::*;
use crate::bundle::{Bundle, BundleObject, PackRef, ProfileSet, Share};
use crate::codec::BadFile;
use crate::image::{ChainId, Digest, ImageId};
use crate::object::{ContentHash, ObjectKind};
use crate::path::RootPath;

/// A pack file with these objects.
fn file(contents: &[&[u8]]) -> Vec<u8> {
    let objects: Vec<_> = contents.iter().map(|content| index::Packed::file(content, 7)).collect();
    assemble(&objects, contents).unwrap().0
}

fn write(directory: &std::path::Path, content: &[u8]) -> std::path::PathBuf {
    let path = directory.join(file_name(&Digest::of(content)));
    std::fs::write(&path, content).unwrap();
    path
}

#[test]
fn any_one_object_can_be_taken_by_its_offset() {
    let directory = tempfile::tempdir().unwrap();
    let contents: [&[u8]; 4] = [b"one", b"", b"three", b"4"];
    let content = file(&contents);
    let pack = PackFile::open(&write(directory.path(), &content)).unwrap();
    assert_eq!(*pack.reference(), PackRef { digest: Digest::of(&content), size: content.len() as u64 });
    for (object, expected) in pack.index().objects().iter().zip(contents).rev() {
        assert_eq!(pack.object(object).unwrap(), expected);
    }
    assert_eq!(PackFile::all_below(directory.path()).unwrap().len(), 1);
    assert_eq!(PackFile::all_below(&directory.path().join("none")).unwrap().len(), 0);
}

#[test]
fn every_cut_and_every_changed_byte_is_noticed() {
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
    // Where the name was made right again, the object itself tells.
    let mut changed = content;
    *changed.last_mut().unwrap() ^= 1;
    let pack = PackFile::open(&write(directory.path(), &changed)).unwrap();
    let objects = pack.index().objects();
    assert!(pack.object(&objects[0]).is_ok() && pack.object(&objects[1]).is_err());
}

#[test]
fn an_index_that_claims_too_much_is_refused() {
    let mut claimed = file(&[b"one"]);
    claimed[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(matches!(Index::extent(&claimed), Err(BadFile::TooLarge { .. })));
    let huge = index::Packed { stored_size: MAX_OBJECT + 1, ..index::Packed::file(b"one", 7) };
    assert!(Index::head(&[huge]).is_err());
    let mut newer = file(&[b"one"]);
    newer[4] = 2;
    assert!(matches!(Index::from_bytes(&newer), Err(BadFile::Newer { .. })));
}

/// An object of a layer, `size` bytes on the server.
fn object(layer: u8, name: &str, size: u64) -> BundleObject {
    let digest = hex::encode([layer; 32]);
    let path = RootPath::new(format!("/.layers/{}/{digest}/layerfs/{name}", &digest[..2])).unwrap();
    BundleObject { stored_size: size, ..BundleObject::file(ContentHash::sha1_of(path.as_bytes()), size, path) }
}

fn bundle(objects: Vec<BundleObject>) -> Bundle {
    let image = ImageId { chain_id: ChainId(Digest::of(b"x")), manifest: None, reference: String::new() };
    Bundle { objects, ..Bundle::of(image, "a.b") }
}

const LIMITS: Limits = Limits { object: 100, least: 50, most: 200, reuse: Share::ALL };

#[test]
fn small_objects_of_a_layer_stand_together_in_order_of_need() {
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
    // Layers 2 and 3 have too little for packs of their own; a pack of layer 1 is full; what is only for some is apart.
    assert_eq!(plan.new, [vec![1, 5], vec![2, 4], vec![7, 10], vec![8, 9]]);
}

#[test]
fn a_published_pack_is_used_again_where_it_is_wanted() {
    let objects = vec![object(1, "a", 60), object(1, "b", 60), object(1, "c", 40), object(1, "d", 40)];
    let published = |objects: &[&BundleObject], more: u64| {
        let packed = |object: &&BundleObject| index::Packed {
            hash: object.hash,
            kind: object.kind,
            offset: 0,
            stored_size: object.stored_size,
            raw_size: object.raw_size,
        };
        let mut packed: Vec<_> = objects.iter().map(packed).collect();
        packed.push(index::Packed { stored_size: more, ..index::Packed::file(b"another", 7) });
        let (head, index) = Index::head(&packed).unwrap();
        (PackRef { digest: Digest::of(&head), size: index.file_size() }, index)
    };
    let published =
        [published(&[&objects[0]], 60), published(&[&objects[2]], 8), published(&[&objects[0], &objects[1]], 12)];
    let limits = Limits { reuse: Share::of(9, 10), ..LIMITS };
    let bundle = bundle(objects);
    assert_eq!(plan(&bundle, &published, &limits), PackPlan { reused: vec![2], new: vec![vec![2, 3]] });
    let all = Limits { reuse: Share::of(8, 10), ..limits };
    assert_eq!(plan(&bundle, &published, &all), PackPlan { reused: vec![2, 1], new: vec![] });
}
