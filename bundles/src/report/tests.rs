use super::*;
use crate::bundle::{Need, PackIndex, PackLocation, Profile, ProfileSet, Share};
use crate::image::{ChainId, Digest, ImageId};
use crate::object::{ContentHash, ObjectKind};
use crate::phase::Phase;
use crate::trace::{FileUse, Phases, Trace};

fn image() -> ImageId {
    ImageId { chain_id: ChainId(Digest::sha256(b"x")), manifest: None, reference: "r/x:1".into() }
}

/// A file of a layer, by its path in the container.
fn file(path: &str, content: u8, size: u64) -> BundleObject {
    let path = RootPath::new(format!("/.layers/ab/{}/layerfs{path}", "ab".repeat(32))).unwrap();
    BundleObject { stored_size: size / 2, ..BundleObject::file(ContentHash::sha1([content; 20]), size, path) }
}

fn bundle(objects: &[BundleObject]) -> Bundle {
    let repositories = vec!["a.b".into(), "sft.c".into()];
    Bundle { repositories, objects: objects.to_vec(), ..Bundle::new(image(), "a.b") }
}

fn paths(changes: &[Change]) -> Vec<(String, i128)> {
    changes.iter().map(|change| (change.path.to_string(), change.bytes())).collect()
}

#[test]
fn objects_are_shown_where_a_container_sees_them() {
    let catalog = BundleObject { kind: ObjectKind::Catalog, ..file("", 1, 2) };
    let other = BundleObject { repository: 1, ..BundleObject::file(catalog.hash, 1, RootPath::new("/v6/x").unwrap()) };
    let all = bundle(&[file("/usr/lib/a", 1, 2), catalog, other]);
    let places: Vec<_> = all.objects.iter().map(|object| display_path(&all, object).to_string()).collect();
    let layer = format!("/cvmfs/a.b/.layers/ab/{}/layerfs", "ab".repeat(32));
    assert_eq!(places, ["/usr/lib/a", &layer, "/cvmfs/sft.c/v6/x"]);
}

#[test]
fn summaries_add_up() {
    let mut objects = [file("/usr/lib/a", 1, 100), file("/usr/lib/x/b", 2, 400), file("/top", 3, 20)];
    objects[1].need = Need {
        share: Share::ratio(1, 4),
        phase: Phase::Main,
        profiles: ProfileSet::default().and(0),
        ..Need::always(4)
    };
    objects[2].packed = Some(PackLocation { pack: PackIndex::new(0), offset: 0 });
    let bundle = Bundle { profiles: vec![Profile { name: "fit".into(), traces: 1 }], ..bundle(&objects) };
    let summary = Summary::new(&bundle);
    let sum = |objects, raw, expected| Sum { objects, raw, stored: raw / 2, expected };
    assert_eq!(summary.total, sum(3, 520, 110));
    assert_eq!(summary.total.weight(), Share::ratio(110, 260));
    let phases = [(Phase::SetUp, sum(2, 120, 60)), (Phase::Main, sum(1, 400, 50))];
    assert_eq!(summary.by_phase, phases.into());
    assert_eq!((summary.common, &summary.by_profile[..]), (sum(2, 120, 60), &[("fit".into(), sum(1, 400, 50))][..]));
    let directories: Vec<_> = summary.by_directory.iter().map(|(path, sum)| (path.to_string(), sum.raw)).collect();
    assert_eq!(directories, [("/usr/lib".into(), 500), ("/".into(), 20)]);
    assert_eq!((summary.packed.objects, summary.by_repository["a.b"].objects), (1, 3));
}

#[test]
fn trees_sum_subdirectories_down_to_their_depth() {
    let bundle = bundle(&[file("/usr/lib/a", 1, 100), file("/usr/bin/b", 2, 400), file("/top", 3, 20)]);
    let root = Directory::from_bundle(&bundle, 2);
    let [(name, usr)] = root.by_bytes()[..] else { panic!("{root:?}") };
    assert_eq!((name, root.sum.raw, usr.sum.raw), (&b"usr"[..], 520, 500));
    assert_eq!(usr.by_bytes().iter().map(|(name, _)| *name).collect::<Vec<_>>(), [b"bin", b"lib"]);
    assert!(Directory::from_bundle(&bundle, 1).directories[b"usr".as_slice()].directories.is_empty());
}

#[test]
fn diffs_list_added_removed_and_changed_files() {
    let chunk = |content, size| BundleObject { kind: ObjectKind::Chunk, ..file("/opt/big", content, size) };
    let old = bundle(&[
        file("/unchanged", 1, 5),
        file("/usr/lib/removed", 2, 10),
        file("/usr/lib/shrank", 3, 50),
        chunk(4, 100),
        file("/other", 6, 7),
    ]);
    let mut new = old.clone();
    new.objects.remove(1);
    new.objects[1] = file("/usr/lib/shrank", 9, 20);
    new.objects[3] = file("/other", 8, 7);
    new.objects.extend([chunk(5, 30), file("/usr/lib/added", 10, 40), file("/usr/lib/added too", 11, 60)]);
    let diff = Diff::between(&Files::from_bundle(&old), &Files::from_bundle(&new));
    assert_eq!(paths(&diff.added), [("/usr/lib/added too".into(), 60), ("/usr/lib/added".into(), 40)]);
    assert_eq!(paths(&diff.removed), [("/usr/lib/removed".into(), -10)]);
    assert_eq!(paths(&diff.grew), [("/opt/big".into(), 30)]);
    assert_eq!(paths(&diff.shrank), [("/usr/lib/shrank".into(), -30)]);
    assert_eq!(paths(&diff.changed), [("/other".into(), 0)]);
    assert_eq!(diff.unchanged, 1);
    assert_eq!(paths(&diff.by_directory), [("/usr/lib".into(), 60), ("/opt".into(), 30)]);
    assert_eq!((diff.old, diff.new.bytes), (Totals { files: 5, objects: 5, bytes: 172 }, 262));
    let increases: Vec<_> = diff.increases().into_iter().cloned().collect();
    assert_eq!(
        paths(&increases),
        [("/usr/lib/added too", 60), ("/usr/lib/added", 40), ("/opt/big", 30)].map(|(p, b)| (p.into(), b))
    );
    let none = Diff::between(&Files::from_bundle(&old), &Files::from_bundle(&old));
    assert_eq!((none.unchanged, none.increases().len(), none.by_directory.len()), (5, 0, 0));
}

#[test]
fn start_up_files_are_needed_by_at_least_half() {
    let mut objects = [file("/a", 1, 1), file("/b", 2, 2), file("/c", 3, 4), file("/d", 4, 8)];
    objects[1].need = Need { phase: Phase::Main, ..Need::always(1) };
    objects[2].need = Need { share: Share::ratio(4_999, 10_000), phase: Phase::StartUp, ..Need::always(1) };
    objects[3].need = Need { share: Share::ratio(1, 2), phase: Phase::StartUp, ..Need::always(1) };
    let files = Files::start_up_of(&bundle(&objects));
    assert_eq!(files.0.keys().map(ToString::to_string).collect::<Vec<_>>(), ["/a", "/d"]);

    let used =
        |path: &str, at_us, written| FileUse { at_us, size: 3, written, ..FileUse::new(RootPath::new(path).unwrap()) };
    let files = vec![used("/a", 0, false), used("/made", 1, true), used("/b", 5, false), used("/late", 9, false)];
    let trace = Trace { files, phases: Phases { start_up_us: 2, main_us: Some(9) }, ..Trace::new(image()) };
    let files = Files::start_up_of_trace(&trace);
    assert_eq!(
        files.0.iter().map(|(path, file)| (path.to_string(), file.bytes)).collect::<Vec<_>>(),
        [("/a".into(), 3), ("/b".into(), 3)]
    );
}
