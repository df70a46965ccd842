//! The requirements of containerd's own snapshotter tests for names, kinds, labels, times and codes (`core/snapshots/testsuite`
//! and `core/snapshots/storage` in its sources). `scripts/containerd-suite` runs these tests themselves.

use std::time::{SystemTime, UNIX_EPOCH};

use containerd_snapshots::api::snapshots::v1::Info;
use containerd_snapshots::tonic::Code;

use crate::process::{Client, Snapshotter, labels};

const COMMITTED: i32 = 3;
const ACTIVE: i32 = 2;
const VIEW: i32 = 1;
const KEEP: (&str, &str) = ("containerd.io/gc.root", "2026-01-01T00:00:00Z");

/// Name, kind and parent of the snapshots that [`base`] makes.
const BASE: [(&str, i32, &str); 6] = [
    ("c1", COMMITTED, ""),
    ("c2", COMMITTED, "c1"),
    ("a1", ACTIVE, "c2"),
    ("a2", ACTIVE, ""),
    ("v1", VIEW, "c2"),
    ("v2", VIEW, ""),
];

async fn base(client: &mut Client) {
    client.prepare("c1-a", "", &[KEEP]).await.unwrap();
    client.commit("c1-a", "c1", &[KEEP]).await.unwrap();
    client.prepare("c2-a", "c1", &[KEEP]).await.unwrap();
    client.commit("c2-a", "c2", &[KEEP]).await.unwrap();
    client.prepare("a1", "c2", &[KEEP]).await.unwrap();
    client.prepare("a2", "", &[KEEP]).await.unwrap();
    client.view_with("v1", "c2", &[KEEP]).await.unwrap();
    client.view_with("v2", "", &[KEEP]).await.unwrap();
}

/// Times of creation and last update, in nanoseconds since 1970.
fn times(info: &Info) -> (u128, u128) {
    let time = |seconds: i64, nanos: i32| seconds as u128 * 1_000_000_000 + nanos as u128;
    let (created, updated) = (info.created_at.as_ref().unwrap(), info.updated_at.as_ref().unwrap());
    (time(created.seconds, created.nanos), time(updated.seconds, updated.nanos))
}

fn now() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()
}

#[tokio::test]
async fn stat_returns_kind_parent_labels_and_times() {
    let mut snapshotter = Snapshotter::start(&[], 1000);
    let mut client = snapshotter.connect().await;
    let begin = now();
    base(&mut client).await;
    let end = now();
    for restarted in [false, true] {
        for (name, kind, parent) in BASE {
            let info = client.stat(name).await.unwrap();
            assert_eq!((info.name.as_str(), info.kind, info.parent.as_str()), (name, kind, parent));
            assert_eq!(info.labels, labels(&[KEEP]), "{name}");
            let (created, updated) = times(&info);
            assert!(begin <= created && created <= end, "{name}, restarted: {restarted}");
            assert_eq!(created, updated, "{name}");
        }
        for gone in ["c1-a", "c2-a"] {
            assert_eq!(client.stat(gone).await.unwrap_err(), Code::NotFound);
        }
        snapshotter.crash_and_restart();
        client = snapshotter.connect().await;
    }
}

#[tokio::test]
async fn only_labels_can_be_updated() {
    let snapshotter = Snapshotter::start(&[], 1000);
    let mut client = snapshotter.connect().await;
    base(&mut client).await;
    for (name, kind, parent) in BASE {
        let before = client.stat(name).await.unwrap();
        let with = |pairs: &[(&str, &str)]| {
            let mut info = Info { parent: "doesnotexist".to_owned(), labels: labels(pairs), ..before.clone() };
            // containerd sends the zero values of Go for kind and times: the year 1.
            info.kind = 0;
            info.created_at.as_mut().unwrap().seconds = -62_135_596_800;
            info.updated_at.as_mut().unwrap().seconds = -62_135_596_800;
            info
        };
        let begin = now();
        let mut steps = Vec::new();
        for (given, fields, expected) in [
            (
                vec![("l1", "v1"), ("l2", "v2"), ("l3", "v3"), KEEP],
                vec![],
                vec![("l1", "v1"), ("l2", "v2"), ("l3", "v3"), KEEP],
            ),
            (
                vec![("l1", "updated"), ("l4", "v4")],
                vec!["labels.l1", "labels.l2"],
                vec![("l1", "updated"), ("l3", "v3"), KEEP],
            ),
            (vec![("l4", "v4"), KEEP], vec!["labels"], vec![("l4", "v4"), KEEP]),
            (vec![("a.b/c.d", "dots")], vec!["labels.a.b/c.d"], vec![("a.b/c.d", "dots"), ("l4", "v4"), KEEP]),
            (vec![("l4", "")], vec!["labels.l4"], vec![("a.b/c.d", "dots"), KEEP]),
        ] {
            let updated = client.update(with(&given), &fields).await.unwrap();
            assert_eq!(updated.labels, labels(&expected), "{name} {fields:?}");
            assert_eq!((updated.name.as_str(), updated.kind, updated.parent.as_str()), (name, kind, parent));
            assert_eq!(client.stat(name).await.unwrap(), updated);
            steps.push(times(&updated));
        }
        let created = times(&before).0;
        assert!(steps.iter().all(|step| step.0 == created), "{name}");
        assert!(
            steps.is_sorted_by_key(|step| step.1) && steps[0].1 >= begin && steps[4].1 <= now(),
            "{name} {steps:?}"
        );
        // With one wrong field, nothing changes.
        let before = client.stat(name).await.unwrap();
        for fields in
            [vec!["parent"], vec!["kind"], vec!["name"], vec!["created_at"], vec!["labels", "parent"], vec![""]]
        {
            let refused = client.update(with(&[("new", "1")]), &fields).await;
            assert_eq!(refused.unwrap_err(), Code::InvalidArgument, "{name} {fields:?}");
        }
        assert_eq!(client.stat(name).await.unwrap(), before);
    }
    let missing = Info { name: "missing".to_owned(), ..client.stat("c1").await.unwrap() };
    assert_eq!(client.update(missing, &["labels"]).await.unwrap_err(), Code::NotFound);
}

#[tokio::test]
async fn a_key_can_be_used_once_until_it_is_removed() {
    let snapshotter = Snapshotter::start(&[], 1000);
    let mut client = snapshotter.connect().await;
    base(&mut client).await;
    for (taken, _, _) in BASE {
        assert_eq!(client.prepare(taken, "c1", &[]).await.unwrap_err(), Code::AlreadyExists, "{taken}");
        assert_eq!(client.view(taken, "c1").await.unwrap_err(), Code::AlreadyExists, "{taken}");
        // This error comes first, even for snapshots that cannot be committed.
        for key in ["a1", "v1", "c1"] {
            assert_eq!(client.commit(key, taken, &[]).await.unwrap_err(), Code::AlreadyExists, "{key} as {taken}");
        }
    }
    for not_active in ["v1", "c1"] {
        assert_eq!(client.commit(not_active, "new", &[]).await.unwrap_err(), Code::FailedPrecondition, "{not_active}");
    }
    for with_children in ["c1", "c2"] {
        assert_eq!(client.remove(with_children).await.unwrap_err(), Code::FailedPrecondition, "{with_children}");
    }
    assert_eq!(snapshotter.names("snapshots").len(), BASE.len(), "nothing is left of the refused calls");
    for name in ["a1", "v1", "c2", "c1"] {
        client.remove(name).await.unwrap();
        assert_eq!(client.stat(name).await.unwrap_err(), Code::NotFound);
    }
    // Removed keys and names can be used again, for other kinds.
    client.view("a1", "").await.unwrap();
    client.prepare("c1", "", &[]).await.unwrap();
    client.commit("c1", "v1", &[]).await.unwrap();
    client.prepare("c2", "v1", &[]).await.unwrap();
    assert_eq!(client.remove("v1").await.unwrap_err(), Code::FailedPrecondition);
}

#[tokio::test]
async fn filters_select_by_name_parent_kind_and_label() {
    let snapshotter = Snapshotter::start(&[], 1000);
    let mut client = snapshotter.connect().await;
    let root = ("containerd.io/gc.root", "check-walk");
    client.prepare("a-np", "", &[root]).await.unwrap();
    client.prepare("p-tmp", "", &[root]).await.unwrap();
    client.commit("p-tmp", "p", &[root]).await.unwrap();
    client.prepare("a", "p", &[root]).await.unwrap();
    client.view_with("v", "p", &[root]).await.unwrap();
    client.prepare("p-wl-tmp", "", &[root]).await.unwrap();
    client.commit("p-wl-tmp", "p-wl", &[("l", "1"), root]).await.unwrap();
    client.prepare("a-wl", "p-wl", &[("l", "2"), root]).await.unwrap();
    client.view_with("v-wl", "p-wl", &[("l", "3"), root]).await.unwrap();
    client.prepare("a-np-wl", "", &[("l", "2"), root]).await.unwrap();
    client.prepare("unlabelled", "", &[]).await.unwrap();
    let walk = r#"labels."containerd.io/gc.root"==check-walk"#;
    for (filters, matches) in [
        (vec![walk.to_owned()], "a a-np a-np-wl a-wl p p-wl v v-wl"),
        (vec![format!("kind==active,{walk}")], "a a-np a-np-wl a-wl"),
        (vec![format!("kind==view,{walk}")], "v v-wl"),
        (vec![format!("kind==committed,{walk}")], "p p-wl"),
        (vec!["name==p".to_owned(), "name==a-np-wl".to_owned()], "a-np-wl p"),
        (vec!["name==a-wl,labels.l".to_owned()], "a-wl"),
        (vec!["parent==p".to_owned()], "a v"),
        (vec![format!(r#"parent!="",{walk}"#)], "a a-wl v v-wl"),
        (vec!["labels.l".to_owned()], "a-np-wl a-wl p-wl v-wl"),
        (vec!["labels.l==2".to_owned()], "a-np-wl a-wl"),
        (vec!["labels.l!=2,kind==active".to_owned()], "a a-np unlabelled"),
        (vec!["name~=/^a-/".to_owned()], "a-np a-np-wl a-wl"),
        (vec!["nonsense==1".to_owned()], ""),
        (vec![], "a a-np a-np-wl a-wl p p-wl unlabelled v v-wl"),
    ] {
        let texts: Vec<_> = filters.iter().map(String::as_str).collect();
        let mut found: Vec<_> = client.list(&texts).await.unwrap().into_iter().map(|info| info.name).collect();
        found.sort_unstable();
        assert_eq!(found.join(" "), matches, "{filters:?}");
    }
    for wrong in ["name=p", "==p", "name==p,", "labels.\"open==1", "name~=/(/"] {
        assert_eq!(client.list(&[wrong]).await.unwrap_err(), Code::InvalidArgument, "{wrong}");
    }
}

#[tokio::test]
async fn a_long_list_is_complete_and_agrees_with_stat() {
    let snapshotter = Snapshotter::start(&[], 1000);
    let mut client = snapshotter.connect().await;
    for number in 0..250 {
        client.view_with(&format!("{number:03}"), "", &[("number", &number.to_string())]).await.unwrap();
    }
    let listed = client.list(&[]).await.unwrap();
    assert_eq!(listed.len(), 250);
    for info in listed {
        assert_eq!(client.stat(&info.name).await.unwrap(), info);
    }
}

#[tokio::test]
async fn every_call_limits_the_size_of_labels() {
    let snapshotter = Snapshotter::start(&[], 1000);
    let mut client = snapshotter.connect().await;
    client.prepare("active", "", &[]).await.unwrap();
    let long = "v".repeat(4096 - "key".len());
    let too_long = format!("{long}v");
    let valid = [("key", long.as_str())];
    let invalid = [("key", too_long.as_str())];
    assert_eq!(client.prepare("p", "", &invalid).await.unwrap_err(), Code::InvalidArgument);
    assert_eq!(client.view_with("v", "", &invalid).await.unwrap_err(), Code::InvalidArgument);
    assert_eq!(client.commit("active", "c", &invalid).await.unwrap_err(), Code::InvalidArgument);
    let active = client.stat("active").await.unwrap();
    let info = |pairs: &[(&str, &str)]| Info { labels: labels(pairs), ..active.clone() };
    for fields in [vec![], vec!["labels"], vec!["labels.key"]] {
        assert_eq!(client.update(info(&invalid), &fields).await.unwrap_err(), Code::InvalidArgument, "{fields:?}");
        assert_eq!(client.update(info(&valid), &fields).await.unwrap().labels, labels(&valid), "{fields:?}");
    }
    client.prepare("p", "", &valid).await.unwrap();
    client.view_with("v", "", &valid).await.unwrap();
    client.commit("active", "c", &valid).await.unwrap();
    for name in ["p", "v", "c"] {
        assert_eq!(client.stat(name).await.unwrap().labels, labels(&valid), "{name}");
    }
    assert_eq!(snapshotter.names("snapshots").len(), 3);
}

#[tokio::test]
async fn a_user_namespace_needs_a_snapshot_with_shifted_owners() {
    use crate::mounted::Mounted;
    use std::os::unix::fs::{MetadataExt, chown};
    let snapshotter = Snapshotter::start(&[], 1000);
    let mut client = snapshotter.connect().await;
    client.prepare("a", "", &[]).await.unwrap();
    client.commit("a", "plain", &[]).await.unwrap();
    let mapping =
        [("containerd.io/snapshot/uidmapping", "0:1000:65536"), ("containerd.io/snapshot/gidmapping", "0:2000:65536")];
    assert_eq!(client.prepare("c", "plain", &mapping).await.unwrap_err(), Code::Unimplemented);
    assert_eq!(client.view_with("c", "plain", &mapping).await.unwrap_err(), Code::Unimplemented);
    assert_eq!(client.prepare("c", "plain", &mapping[..1]).await.unwrap_err(), Code::InvalidArgument);
    let wrong = [mapping[0], (mapping[1].0, "0-2000")];
    assert_eq!(client.prepare("c", "plain", &wrong).await.unwrap_err(), Code::InvalidArgument);
    assert_eq!(snapshotter.names("snapshots").len(), 1);
    // containerd does this for a snapshotter that cannot shift owners.
    let mounts = client.prepare("shifted-remap", "plain", &[]).await.unwrap();
    chown(Mounted::new(snapshotter.path("m"), &mounts).path(), Some(1000), Some(2000)).unwrap();
    client.commit("shifted-remap", "shifted", &[]).await.unwrap();
    for (key, parent) in [("on shifted", "shifted"), ("on nothing", "")] {
        let mounts = client.prepare(key, parent, &mapping).await.unwrap();
        let root = std::fs::metadata(Mounted::new(snapshotter.path("m"), &mounts).path()).unwrap();
        assert_eq!((root.uid(), root.gid()), (1000, 2000), "{key}");
    }
}
