//! The documentation of the JSON output names every key, and no other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use api::proto::RequestStatus;
use bundles::builder;
use bundles::bundle::{Bundle, BundleObject, Rebased};
use bundles::image::{ChainId, Digest, ImageId};
use bundles::object::ContentHash;
use bundles::path::RootPath;
use serde_json::Value;

use super::bundle::{Amount, Totals};
use super::*;
use crate::test_traces::full_trace;

const PAGE: &str = include_str!("../../../docs/src/cli-json.md");

/// The keys in the tables of the page, by the title of their section.
fn documented() -> BTreeMap<&'static str, BTreeSet<&'static str>> {
    let mut sections = BTreeMap::<_, BTreeSet<_>>::new();
    let mut title = "";
    for line in PAGE.lines() {
        if let Some(text) = line.strip_prefix("## ").or(line.strip_prefix("### ")) {
            title = text.trim_matches('`');
        } else if let Some((key, _)) = line.strip_prefix("| `").and_then(|row| row.split_once('`')) {
            sections.entry(title).or_default().insert(key);
        }
    }
    sections
}

fn image() -> ImageId {
    ImageId { chain_id: ChainId(Digest::sha256(b"x")), manifest: Some(Digest::sha256(b"m")), reference: "r/i:t".into() }
}

fn bundle() -> Bundle {
    let path = RootPath::new(format!("/.layers/ab/{}/layerfs/x", "ab".repeat(32))).unwrap();
    let objects = vec![BundleObject::file(ContentHash::sha1([1; 20]), 1, path)];
    let rebased = Some(Rebased { from: image(), unchanged: 1, changed: 0, removed: 0 });
    Bundle { objects, rebased, ..Bundle::new(image(), "unpacked.test.example") }
}

/// A value of every type, under the title of its section.
fn samples() -> Vec<(&'static str, Value)> {
    fn json(value: impl Serialize) -> Value {
        serde_json::to_value(value).unwrap()
    }
    let (trace, bundle) = (full_trace(), bundle());
    let recorded = || RecordedTrace::new(Path::new("a.trace"), &trace);
    let change = || FileChange { path: "/a".into(), old: Totals::default(), new: Totals::default() };
    let fit = || Fit::from(&builder::Fit::default());
    let verified = || VerifiedBundle {
        image: (&bundle.image).into(),
        objects: 1,
        faults: vec![ObjectFault { object: String::new(), path: String::new(), error: String::new() }],
    };
    let built = json(BuiltBundle::new(Path::new("a.bundle"), &bundle));
    let evaluated =
        || EvaluatedTrace { trace: String::new(), profile: String::new(), with_profile: fit(), common_only: fit() };
    let request = json(Request::from(&RequestStatus::default()));
    let stored = || StoredBundle {
        image: (&bundle.image).into(),
        repository: String::new(),
        objects: 1,
        stored_bytes: 1,
        bundle_bytes: 1,
        last_use: String::new(),
        mount: None,
    };
    let damaged = || DamagedBundle { chain_id: String::new(), error: String::new() };
    vec![
        ("Image", json(Image::from(&image()))),
        ("record", json(recorded())),
        (
            "watch",
            json(WatchedTrace {
                namespace: String::new(),
                pod: String::new(),
                container: String::new(),
                recorded: recorded(),
            }),
        ),
        (
            "trace import",
            json(ImportedTrace {
                trace: String::new(),
                image: (&image()).into(),
                files: 0,
                complete: true,
                faults: Vec::new(),
            }),
        ),
        ("trace stats", json(TraceStats::new(&trace))),
        ("FileSum", json(FileSum::default())),
        ("UsedBy", json(UsedBy { percent: 50, at_us: 1 })),
        ("LargeFile", json(LargeFile { path: String::new(), size: 1, first_use_us: 1 })),
        ("bundle build and bundle rebase", built.clone()),
        ("RebasedFrom", built["rebased_from"].clone()),
        ("Excluded", json(Excluded { count: 1, cause: "" })),
        (
            "bundle pack",
            json(PackedBundle {
                bundle: String::new(),
                objects: 0,
                packed_objects: 0,
                new_packs: Vec::new(),
                new_pack_bytes: 0,
                reused_packs: 0,
                layer_bytes: 0,
            }),
        ),
        (
            "bundle diff",
            json(BundleDiff::from(&bundles::report::Diff::between(&Default::default(), &Default::default()))),
        ),
        ("FileChange", json(change())),
        ("Totals", json(Totals::default())),
        ("bundle verify", json(verified())),
        ("ObjectFault", json(verified().faults.remove(0))),
        (
            "bundle evaluate",
            json(Evaluation {
                traces: vec![evaluated()],
                incomplete_traces: 0,
                with_profile: fit(),
                common_only: fit(),
            }),
        ),
        ("EvaluatedTrace", json(evaluated())),
        ("Fit", json(fit())),
        ("Amount", json(Amount { objects: 0, bytes: 0 })),
        ("bundle push", json(PushedBundle { location: String::new(), fallback_tag: None, replaced_bundles: 0 })),
        ("bundle pull", json(PulledBundle { bundle: String::new(), image: (&image()).into(), objects: 0, traces: 0 })),
        (
            "bundle export",
            json(ExportedBundle { outputs: Vec::new(), files: 0, inexpressible_files: 0, excluded: String::new() }),
        ),
        (
            "bundle check-growth",
            json(CheckedGrowth {
                old: Totals::default(),
                new: Totals::default(),
                max_growth: String::new(),
                exceeded: false,
                grown_files: vec![change()],
            }),
        ),
        ("prefetch, status REQUEST, cancel and priority", request.clone()),
        ("prefetch --no-wait", json(RequestId { request_id: 1 })),
        ("status", json(DaemonStatus::default())),
        ("RequestImage", request["image"].clone()),
        ("Tally", request["tally"].clone()),
        ("store list", json(StoredBundles { bundles: vec![stored()], damaged: vec![damaged()] })),
        ("StoredBundle", json(stored())),
        ("DamagedBundle", json(damaged())),
        ("store rm", json(RemovedBundles { removed_bundles: 1 })),
        ("store import", json(ImportedBundles { images: Vec::new() })),
        ("store export", json(SavedBundle { bundle: String::new(), image: (&image()).into() })),
        (
            "store verify",
            json(VerifiedStore { intact_bundles: 1, damaged: vec![damaged()], verified: vec![verified()] }),
        ),
        ("trace show", json(&trace)),
        ("bundle inspect and store show", json(&bundle)),
    ]
}

#[test]
fn the_documentation_has_exactly_the_keys_of_each_type() {
    let documented = documented();
    let samples = samples();
    for (title, value) in &samples {
        let keys: BTreeSet<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(documented.get(title), Some(&keys), "section {title}");
    }
    let titles: BTreeSet<_> = samples.iter().map(|(title, _)| *title).collect();
    assert_eq!(documented.keys().copied().collect::<BTreeSet<_>>(), titles, "sections with keys");
}
