//! Packs bring many objects in few requests, nobody has to believe them, and what they do not give comes on its own.

#![allow(clippy::unwrap_used)]

mod site;

use std::fs;
use std::path::Path;

use api::proto::{RequestState, Tally};
use bundles::bundle::{Bundle, PackIndex, PackLocation, PackRef};
use bundles::image::Digest;
use bundles::layout::pack_path;
use bundles::object::ObjectKind;
use bundles::pack::{PackedObject, assemble};
use flate2::Compression;

use site::{Behaviour, Daemon, Object, Origin, REPOSITORY, Site, bundle, by_chain, noise, objects, tally, until};

/// What is wrong, the objects in the pack, what the server does in its place, and how many objects come on their own.
type Case<'a> = (&'a str, &'a [Object], &'a dyn Fn(&Object) -> Behaviour, usize);

/// A pack that holds some objects, as the repository has it: its parts.
struct Published {
    parts: Vec<Object>,
}

/// Puts `packed` into a pack, points `bundle` at it, and shows the pack at the mount as a client does: with the names of the
/// objects that it is made of.
fn publish_pack(site: &Site, bundle: &mut Bundle, packed: &[Object], part_size: Option<usize>) -> Published {
    let of = |o: &Object| PackedObject {
        hash: o.entry.hash,
        kind: o.entry.kind,
        offset: 0,
        stored_size: o.entry.stored_size,
        raw_size: o.entry.raw_size,
    };
    let entries: Vec<PackedObject> = packed.iter().map(of).collect();
    let stored: Vec<&[u8]> = packed.iter().map(|o| &o.stored[..]).collect();
    let (content, index) = assemble(&entries, &stored).unwrap();
    let digest = Digest::sha256(&content);
    for entry in index.objects() {
        let object = bundle.objects.iter_mut().find(|o| o.hash == entry.hash).unwrap();
        object.packed = Some(PackLocation { pack: PackIndex::new(bundle.packs.len() as u32), offset: entry.offset });
    }
    bundle.packs.push(PackRef { digest, size: content.len() as u64 });

    let path = site.mount().join(pack_path(&digest));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, &content).unwrap();
    let attribute = |path: &Path, name: &str, value: &str| xattr::set(path, name, value.as_bytes()).unwrap();
    for (name, value) in [("user.fqrn", REPOSITORY), ("user.host", "http://localhost/"), ("user.proxy", "DIRECT")] {
        attribute(&site.mount(), name, value);
    }
    attribute(&path, "user.compression", "zlib");
    let Some(part_size) = part_size else {
        let whole = Object::new(&content);
        attribute(&path, "user.hash", &whole.entry.hash.to_string());
        return Published { parts: vec![whole] };
    };
    let chunk = |content: &[u8]| Object::compressed(content, Compression::default(), ObjectKind::Chunk);
    let parts: Vec<Object> = content.chunks(part_size).map(chunk).collect();
    let mut list = "hash,offset,size\n".to_owned();
    for (n, part) in parts.iter().enumerate() {
        list += &format!("{},{},{}\n", part.entry.hash, n * part_size, part.raw.len());
    }
    attribute(&path, "user.chunk_list", &list);
    Published { parts }
}

/// 200 objects in one pack, or none of them; and the bundle.
fn packed_image(site: &Site, name: &str, part_size: Option<usize>) -> (Vec<Object>, Bundle, Published) {
    let wanted = objects(20, 200);
    let mut image = bundle(name, &wanted);
    let pack = publish_pack(site, &mut image, &wanted, part_size);
    site.publish(&image);
    (wanted, image, pack)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_is_one_request_and_large_objects_are_fetched_beside_it() {
    let site = Site::new();
    let mut wanted = objects(21, 200);
    wanted.insert(3, Object::new(&noise(9 << 20)));
    let mut image = bundle("packed", &wanted);
    let small: Vec<Object> = wanted.iter().filter(|o| o.raw.len() < 1 << 20).cloned().collect();
    let pack = publish_pack(&site, &mut image, &small, None);
    site.publish(&image);
    let origin = Origin::start(wanted.iter().chain(&pack.parts)).await;
    let daemon = Daemon::start(&site, &[&origin]).await;
    let status = daemon.prefetch_bundle(&image).await;
    assert_eq!(status.state(), RequestState::Done, "{status:?}");
    site.assert_cached(&wanted);
    let a = tally(&status);
    assert_eq!((a.fetched_objects, a.packs, a.failed_objects), (201, 1, 0));
    assert_eq!(a.transferred_bytes, (pack.parts[0].stored.len() + wanted[3].stored.len()) as u64);
    // The large one in five ranges.
    assert_eq!((origin.requests_for(&pack.parts[0]), origin.requests_for(&wanted[3]), origin.requests()), (1, 5, 6));
    assert!(site.temporary_files().is_empty());
    // And nothing is fetched again.
    assert_eq!(tally(&daemon.prefetch_bundle(&image).await).cached_objects, 201);
    assert_eq!(origin.requests(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_in_chunks_gives_objects_across_chunk_boundaries() {
    let site = Site::new();
    let (wanted, image, pack) = packed_image(&site, "chunked", Some(5000));
    assert!(pack.parts.len() >= 4, "{} parts", pack.parts.len());
    let origin = Origin::start(wanted.iter().chain(&pack.parts)).await;
    let daemon = Daemon::start(&site, &[&origin]).await;
    let status = daemon.prefetch_bundle(&image).await;
    assert_eq!(status.state(), RequestState::Done, "{status:?}");
    site.assert_cached(&wanted);
    // What has only bytes of the index is not asked for.
    let first = image.objects.iter().filter_map(|object| Some(object.packed?.offset)).min().unwrap();
    assert_eq!(origin.requests(), pack.parts.len() - first as usize / 5000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_is_not_fetched_when_most_of_its_objects_are_cached() {
    let site = Site::new();
    let (wanted, image, pack) = packed_image(&site, "most", None);
    let origin = Origin::start(wanted.iter().chain(&pack.parts)).await;
    let daemon = Daemon::start(&site, &[&origin]).await;
    assert_eq!(daemon.prefetch_bundle(&bundle("before", &wanted[1..])).await.state(), RequestState::NoBundle);
    let before = bundle("before it", &wanted[1..]);
    site.publish(&before);
    assert_eq!(daemon.prefetch_bundle(&before).await.state(), RequestState::Done);
    let status = daemon.prefetch_bundle(&image).await;
    assert_eq!((status.state(), tally(&status).packs), (RequestState::Done, 0), "{status:?}");
    assert_eq!((origin.requests_for(&pack.parts[0]), origin.requests()), (0, 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_missing_in_a_pack_are_fetched_one_by_one() {
    let wanted = objects(22, 50);
    // Objects that are not what they say: the pack itself is right.
    let mut spoiled = wanted.clone();
    for object in &mut spoiled[10..13] {
        let middle = object.stored.len() / 2;
        object.stored[middle] ^= 1;
    }
    // A pack that is cut, is another file, is refused, is not there.
    let whole = |pack: &Object| pack.stored.clone();
    let cases: [Case<'_>; 5] = [
        ("spoiled objects", &spoiled, &|pack| Behaviour::Send(whole(pack)), 3),
        ("a cut body", &wanted, &|pack| Behaviour::Cut(whole(pack), 20), 50),
        ("another file", &wanted, &|pack| Behaviour::Send(Object::new(&noise(pack.raw.len())).stored), 50),
        ("not found", &wanted, &|_| Behaviour::Status(404, ""), 50),
        ("not zlib", &wanted, &|_| Behaviour::Send(b"<html>log in</html>".to_vec()), 50),
    ];
    for (what, in_pack, behaviour, on_their_own) in cases {
        let site = Site::new();
        let mut image = bundle(what, &wanted);
        let pack = publish_pack(&site, &mut image, in_pack, None);
        site.publish(&image);
        let origin = Origin::start(&wanted).await;
        origin.set(&pack.parts[0], behaviour(&pack.parts[0]));
        let daemon = Daemon::start(&site, &[&origin]).await;
        let status = daemon.prefetch_bundle(&image).await;
        assert_eq!(status.state(), RequestState::Done, "{what}: {status:?}");
        site.assert_cached(&wanted);
        let one_by_one: usize = wanted.iter().map(|object| origin.requests_for(object)).sum();
        assert_eq!((one_by_one, site.temporary_files().len()), (on_their_own, 0), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_that_fails_is_fetched_from_the_next_server() {
    let site = Site::new();
    let (wanted, image, pack) = packed_image(&site, "fail-over", None);
    let (bad, good) = (Origin::start(&wanted).await, Origin::start(wanted.iter().chain(&pack.parts)).await);
    let stored = pack.parts[0].stored.clone();
    let half = stored.len() / 2;
    bad.set(&pack.parts[0], Behaviour::Cut(stored, half));
    let daemon = Daemon::start(&site, &[&bad, &good]).await;
    let status = daemon.prefetch_bundle(&image).await;
    assert_eq!((status.state(), tally(&status).packs), (RequestState::Done, 1), "{status:?}");
    site.assert_cached(&wanted);
    assert_eq!((bad.requests(), good.requests()), (1, 1));
}

async fn tally_so_far(daemon: &Daemon, id: u64) -> Tally {
    daemon.client.status(id).await.unwrap().tally.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_images_that_share_a_pack_fetch_it_once() {
    let site = Site::new();
    let wanted = objects(23, 100);
    let (mut one, mut two) = (bundle("one", &wanted), bundle("two", &wanted));
    let pack = publish_pack(&site, &mut one, &wanted, None);
    publish_pack(&site, &mut two, &wanted, None);
    site.publish(&one);
    site.publish(&two);
    let origin = Origin::start(&wanted).await;
    origin.set(&pack.parts[0], Behaviour::Hold(pack.parts[0].stored.clone()));
    let daemon = Daemon::start(&site, &[&origin]).await;
    let first = daemon.client.prefetch(by_chain(&one)).await.unwrap();
    until("the pack is requested", || origin.requests_for(&pack.parts[0]) == 1).await;
    let second = daemon.client.prefetch(by_chain(&two)).await.unwrap();
    while tally_so_far(&daemon, second).await.total_objects == 0 {
        tokio::task::yield_now().await;
    }
    origin.open_gate();
    for id in [first, second] {
        assert_eq!(daemon.client.wait(id, site::LONG).await.unwrap().state(), RequestState::Done);
    }
    let joined = tally(&daemon.client.status(second).await.unwrap());
    assert_eq!((joined.joined_objects + joined.cached_objects, joined.fetched_objects), (100, 0));
    assert_eq!((origin.requests_for(&pack.parts[0]), origin.requests()), (1, 1));
    site.assert_cached(&wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_single_large_object_is_fetched_in_ranges() {
    let site = Site::new();
    let large: Vec<Object> = (0..3).map(|n| Object::new(&noise((9 << 20) + n))).collect();
    let image = bundle("several", &large);
    site.publish(&image);
    let origin = Origin::start(&large).await;
    let daemon = Daemon::start(&site, &[&origin]).await;
    assert_eq!(daemon.prefetch_bundle(&image).await.state(), RequestState::Done);
    site.assert_cached(&large);
    let mut requests: Vec<usize> = large.iter().map(|object| origin.requests_for(object)).collect();
    requests.sort_unstable();
    assert_eq!(requests, [1, 1, 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_ranges_sends_large_objects_whole() {
    let site = Site::new();
    let large = Object::compressed(&noise(20 << 20), Compression::none(), ObjectKind::File);
    let origin = Origin::start([]).await;
    origin.set(&large, Behaviour::Whole(large.stored.clone()));
    let image = bundle("large", [&large]);
    site.publish(&image);
    let daemon = Daemon::start(&site, &[&origin]).await;
    assert_eq!(daemon.prefetch_bundle(&image).await.state(), RequestState::Done);
    site.assert_cached([&large]);
}
