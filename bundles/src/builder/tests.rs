//! From traces to needs and bundles, without a repository.

use super::locate::{LocatedObject, Source};
use super::*;
use crate::bundle::{ProfileSet, Share};
use crate::image::{ChainId, Digest, ImageId};
use crate::object::{ContentHash, ObjectKind};
use crate::path::RootPath;
use crate::phase::Phase;
use crate::trace::{FileUse, LossCause, Losses, Phases, Range, Ranges, Trace};

/// A complete trace of a profile, with the files it used and when.
fn trace(profile: &str, uses: &[(&str, u64)]) -> Trace {
    let image = ImageId { chain_id: ChainId(Digest::sha256(b"x")), manifest: None, reference: String::new() };
    let file = |(path, at_us): &(&str, u64)| FileUse { at_us: *at_us, ..FileUse::new(RootPath::new(*path).unwrap()) };
    let phases = Phases { start_up_us: 0, main_us: Some(100) };
    let end = crate::trace::End::Exited(0);
    Trace { profile: profile.into(), files: uses.iter().map(file).collect(), phases, end, ..Trace::new(image) }
}

fn incomplete(trace: Trace) -> Trace {
    let mut losses = Losses::default();
    losses.add(LossCause::BufferFull, 1);
    Trace { losses, ..trace }
}

fn uses(traces: &[Trace]) -> Uses {
    // Each trace on its own, as if every processor read one.
    let collected = traces.iter().map(|trace| {
        let mut collection = uses::Collection::default();
        collection.add(&trace.to_bytes().unwrap(), None).unwrap();
        collection
    });
    Uses::merge(collected.collect())
}

/// One object per file, sorted by name, whose hash is computed from the name.
fn located(uses: &Uses) -> Located {
    let mut located = Located::default();
    let mut files: Vec<_> = uses.files.iter().enumerate().collect();
    files.sort_by_key(|(_, name)| *name);
    for (place, name) in files {
        let uses::FileName::Image(path) = name else { panic!("{name:?}") };
        located.objects.push(object(path, &[(place, None)]));
    }
    located
}

fn object(path: &RootPath, sources: &[(usize, Option<(u64, u64)>)]) -> LocatedObject {
    let source = |(file, part): &(usize, Option<(u64, u64)>)| Source { file: *file, part: *part };
    LocatedObject {
        hash: ContentHash::sha1_of(path.as_bytes()),
        kind: ObjectKind::File,
        repository: 0,
        raw_size: 100,
        offset: 0,
        path: path.clone(),
        always: false,
        sources: sources.iter().map(source).collect(),
    }
}

fn need(weighed: &weigh::Weighed, located: &Located, path: &str) -> Option<Need> {
    let place = located.objects.iter().position(|object| object.path.as_bytes() == path.as_bytes()).unwrap();
    weighed.needs[place]
}

#[test]
fn the_order_of_traces_does_not_matter() {
    let mut traces = vec![
        trace("a", &[("/x", 5), ("/y", 9), ("/z", 9)]),
        trace("b", &[("/z", 1), ("/x", 7)]),
        trace("a", &[("/w", 300), ("/x", 6)]),
        incomplete(trace("b", &[("/v", 2)])),
    ];
    let bytes = |traces: &[Trace]| {
        let uses = uses(traces);
        let located = located(&uses);
        let weighed = weigh(&uses, &located, |_| true, &Policy { min_share: Share::NONE, ..Policy::default() });
        let objects =
            located.objects.iter().zip(&weighed.needs).filter_map(|(object, need)| Some(object.with((*need)?)));
        let (objects, _) = select::select(objects.collect(), &Policy::default());
        let bundle = Bundle { objects, profiles: weighed.profiles, ..Bundle::new(traces[0].image.clone(), "a.b") };
        bundle.to_bytes().unwrap()
    };
    let first = bytes(&traces);
    for _ in 0..traces.len() {
        traces.rotate_left(1);
        assert_eq!(bytes(&traces), first);
    }
    traces.swap(0, 2);
    assert_eq!(bytes(&traces), first);
}

#[test]
fn needs_have_share_earliest_and_typical_use() {
    let uses = uses(&[
        trace("", &[("/a", 5), ("/b", 9)]),
        trace("", &[("/a", 300), ("/c", 1)]),
        trace("", &[("/a", 50)]),
        trace("", &[("/a", 40)]),
    ]);
    let located = located(&uses);
    let weighed = weigh(&uses, &located, |_| true, &Policy { min_share: Share::ratio(1, 4), ..Policy::default() });
    let of = |path: &str| {
        let need = need(&weighed, &located, path).unwrap();
        (need.used_in, need.share, need.first_us, need.typical_us, need.phase)
    };
    assert_eq!(of("/a"), (4, Share::ALL, 5, 40, Phase::StartUp));
    assert_eq!(of("/b"), (1, Share::ratio(1, 4), 9, 9, Phase::StartUp));
    let stricter = weigh(&uses, &located, |_| true, &Policy { min_share: Share::ratio(1, 3), ..Policy::default() });
    assert_eq!((need(&stricter, &located, "/b"), stricter.rare), (None, 2));
}

#[test]
fn incomplete_traces_never_lower_a_share() {
    let complete = [trace("", &[("/a", 1), ("/b", 2)]), trace("", &[("/a", 1)])];
    let policy = Policy { min_share: Share::NONE, ..Policy::default() };
    let shares = |traces: &[Trace]| {
        let uses = uses(traces);
        let located = located(&uses);
        let weighed = weigh(&uses, &located, |_| true, &policy);
        let share = |path: &str| {
            let known = located.objects.iter().any(|object| object.path.to_string() == path);
            known.then(|| need(&weighed, &located, path).unwrap().share.parts())
        };
        ["/a", "/b", "/c"].map(share)
    };
    assert_eq!(shares(&complete), [Some(10_000), Some(5_000), None]);
    let with = |more: &[(&str, u64)]| shares(&[&complete[..], &[incomplete(trace("", more))]].concat());
    assert_eq!(with(&[]), [Some(10_000), Some(5_000), None]);
    assert_eq!(with(&[("/b", 1), ("/c", 2)]), [Some(10_000), Some(6_666), Some(3_333)]);
    assert_eq!(shares(&[incomplete(trace("", &[("/a", 1)]))]), [Some(10_000), None, None]);
}

#[test]
fn objects_of_all_profiles_are_common() {
    let uses = uses(&[
        trace("fit", &[("/all", 1), ("/fit", 2), ("/two", 2)]),
        trace("fit", &[("/all", 1), ("/fit", 2), ("/once", 9)]),
        trace("plot", &[("/all", 1), ("/two", 2)]),
        trace("test", &[("/all", 1)]),
    ]);
    let located = located(&uses);
    let weighed = weigh(&uses, &located, |_| true, &Policy { min_share: Share::ratio(3, 5), ..Policy::default() });
    let names: Vec<_> = weighed.profiles.iter().map(|profile| (profile.name.as_str(), profile.traces)).collect();
    assert_eq!(names, [("fit", 2), ("plot", 1), ("test", 1)]);
    let profiles = |path: &str| need(&weighed, &located, path).map(|need| need.profiles);
    let set = |of: &[usize]| Some(of.iter().fold(ProfileSet::default(), |set, profile| set.and(*profile)));
    assert_eq!(profiles("/all"), set(&[]));
    assert_eq!(profiles("/fit"), set(&[0]));
    assert_eq!(profiles("/two"), set(&[1]));
    assert_eq!(profiles("/once"), None);
}

#[test]
fn only_chunks_that_were_read_are_needed() {
    let read = |start, end| Some(Ranges::new(vec![Range { start, end }], Vec::new()));
    let file = |ranges| FileUse { size: 300, ranges, ..FileUse::new(RootPath::new("/big").unwrap()) };
    let traces = [read(0, 100), read(50, 60), Some(Ranges::default())].map(|ranges| {
        let files = vec![file(ranges)];
        Trace { files, ..trace("", &[]) }
    });
    let uses = uses(&traces);
    let path = RootPath::new("/big").unwrap();
    let parts = [Some((0, 100)), Some((100, 200)), Some((200, 300)), None];
    let chunk = |part: Option<(u64, u64)>| {
        let kind = if part.is_some() { ObjectKind::Chunk } else { ObjectKind::File };
        LocatedObject { kind, ..object(&path, &[(0, part)]) }
    };
    let located = Located { objects: parts.into_iter().map(chunk).collect(), ..Located::default() };
    let weighed = weigh(&uses, &located, |_| true, &Policy::default());
    let used_in: Vec<_> = weighed.needs.iter().map(|need| need.map(|need| need.used_in)).collect();
    // Opening a file that is one object needs it, whatever is read.
    assert_eq!((used_in, weighed.untouched), (vec![Some(2), None, None, Some(3)], 2));
}

#[test]
fn held_out_traces_measure_bundles_of_the_others() {
    let uses = uses(&[
        trace("fit", &[("/all", 1), ("/fit", 2), ("/own", 3)]),
        trace("fit", &[("/all", 1), ("/fit", 2), ("/other", 2)]),
        trace("plot", &[("/all", 1), ("/plot", 2)]),
    ]);
    let located = located(&uses);
    let sizes: Vec<u64> =
        located.objects.iter().map(|object| if object.path.name() == b"all" { 70 } else { 10 }).collect();
    let excluded = |trace| evaluate::hold_out(trace, &uses, &located, &sizes, &Policy::default());
    let amount = |objects, bytes| Amount { objects, bytes };
    // The other traces have the profile fit with /all, /fit and /other, and the profile plot.
    let first = excluded(0);
    assert_eq!(first.common, Fit { needed: amount(3, 90), held: amount(1, 70), hit: amount(1, 70) });
    assert_eq!(first.requested, Fit { needed: amount(3, 90), held: amount(3, 90), hit: amount(2, 80) });
    assert_eq!((first.requested.coverage(), first.requested.waste()), (Share::ratio(2, 3), Share::ratio(1, 9)));
    // The other traces do not have the profile plot: everything is common.
    let last = excluded(2);
    assert_eq!((last.requested, last.requested.held), (last.common, amount(4, 100)));
    let total = Evaluation { traces: vec![first, last], incomplete: 0 }.total().0;
    assert_eq!((total.needed, total.hit), (amount(5, 170), amount(3, 150)));
}

#[test]
fn an_object_at_two_paths_counts_once_per_trace() {
    let uses = uses(&[trace("", &[("/a", 7), ("/b", 3)]), trace("", &[("/b", 5)])]);
    let both = object(&RootPath::new("/a").unwrap(), &[(0, None), (1, None)]);
    let located = Located { objects: vec![both], ..Located::default() };
    let need = weigh(&uses, &located, |_| true, &Policy::default()).needs[0].unwrap();
    assert_eq!((need.used_in, need.share, need.first_us, need.typical_us), (2, Share::ALL, 3, 3));
}
