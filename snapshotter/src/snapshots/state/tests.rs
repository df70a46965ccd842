#![allow(clippy::unwrap_used)]

use bundles::image::{ChainId, Digest};

use super::*;
use crate::snapshots::names;

fn labels_of(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn create(state: &mut State, key: &str, kind: Kind, parent: &str) -> Result<(), StateError> {
    let id = state.iter().count() as u64 + 1;
    let parent = Some(parent.to_owned()).filter(|parent| !parent.is_empty());
    let new =
        NewSnapshot { id, kind, parent, labels: Labels::new(), content: Content::Local, now: SystemTime::UNIX_EPOCH };
    let change = state.create(key, new)?;
    state.apply(change);
    Ok(())
}

fn commit(state: &mut State, key: &str, name: &str, with: &[(&str, &str)]) -> Result<(), StateError> {
    let change = state.commit(key, name, labels_of(with), Usage::default(), SystemTime::UNIX_EPOCH)?;
    state.apply(change);
    Ok(())
}

fn remove(state: &mut State, key: &str) -> Result<(), StateError> {
    let (change, _) = state.remove(key)?;
    state.apply(change);
    Ok(())
}

#[test]
fn parents_are_removed_after_their_children() {
    let mut state = State::default();
    create(&mut state, "a", Kind::Active, "").unwrap();
    commit(&mut state, "a", "A", &[]).unwrap();
    create(&mut state, "b", Kind::Active, "A").unwrap();
    commit(&mut state, "b", "B", &[]).unwrap();
    create(&mut state, "c", Kind::View, "B").unwrap();
    let ids: Vec<_> = state.ancestors(state.get("c").unwrap()).unwrap().iter().map(|parent| parent.id).collect();
    assert_eq!(ids, [2, 1]);
    for parent in ["A", "B"] {
        assert!(matches!(remove(&mut state, parent), Err(StateError::HasChildren(_))), "{parent}");
    }
    for name in ["c", "B", "A"] {
        remove(&mut state, name).unwrap();
    }
    assert_eq!(state.iter().count(), 0);
    assert!(state.children.is_empty());
}

#[test]
fn each_mistake_has_its_own_error() {
    let mut state = State::default();
    create(&mut state, "a", Kind::Active, "").unwrap();
    commit(&mut state, "a", "A", &[]).unwrap();
    create(&mut state, "active", Kind::Active, "A").unwrap();
    create(&mut state, "view", Kind::View, "A").unwrap();
    assert!(matches!(create(&mut state, "active", Kind::View, "A"), Err(StateError::AlreadyExists(_))));
    assert!(matches!(create(&mut state, "A", Kind::Active, ""), Err(StateError::AlreadyExists(_))));
    assert!(matches!(create(&mut state, "x", Kind::Active, "missing"), Err(StateError::NotFound(_))));
    assert!(matches!(create(&mut state, "x", Kind::Active, "active"), Err(StateError::ParentNotCommitted(_))));
    assert!(matches!(create(&mut state, "", Kind::Active, ""), Err(StateError::EmptyKey)));
    assert!(matches!(commit(&mut state, "missing", "M", &[]), Err(StateError::NotFound(_))));
    assert!(matches!(commit(&mut state, "active", "A", &[]), Err(StateError::AlreadyExists(_))));
    assert!(matches!(commit(&mut state, "view", "V", &[]), Err(StateError::NotActive(_))));
    assert!(matches!(commit(&mut state, "view", "A", &[]), Err(StateError::AlreadyExists(_))), "the name comes first");
    assert!(matches!(commit(&mut state, "active", "", &[]), Err(StateError::EmptyName)));
    assert!(matches!(commit(&mut state, "A", "V", &[]), Err(StateError::NotActive(_))));
    assert!(matches!(remove(&mut state, "missing"), Err(StateError::NotFound(_))));
}

#[test]
fn labels_are_replaced_by_commit_and_set_by_field() {
    let mut state = State::default();
    create(&mut state, "a", Kind::Active, "").unwrap();
    commit(&mut state, "a", "A", &[("x", "1"), ("y", "2"), ("empty", "")]).unwrap();
    assert_eq!(state.get("A").unwrap().labels, labels_of(&[("x", "1"), ("y", "2")]));
    let now = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(9);
    let mut update = |given: &[(&str, &str)], fields: &[&str]| {
        let fields: Vec<String> = fields.iter().map(|field| (*field).to_owned()).collect();
        let change = state.update("A", &labels_of(given), &fields, now)?;
        state.apply(change);
        Ok::<_, StateError>(state.get("A")?.clone())
    };
    let updated = update(&[("x", "3"), ("z", "4")], &["labels.x", "labels.y"]).unwrap();
    assert_eq!(updated.labels, labels_of(&[("x", "3")]));
    assert_eq!(updated.updated, now);
    assert_eq!(update(&[("z", "4")], &["labels"]).unwrap().labels, labels_of(&[("z", "4")]));
    assert_eq!(update(&[("a.b/c", "5")], &["labels.a.b/c"]).unwrap().labels, labels_of(&[("a.b/c", "5"), ("z", "4")]));
    assert_eq!(update(&[], &[]).unwrap().labels, labels_of(&[]));
    assert!(matches!(update(&[], &["kind"]), Err(StateError::FixedField { .. })));
    assert!(matches!(state.update("missing", &labels_of(&[]), &[], now), Err(StateError::NotFound(_))));
}

/// Commits a snapshot `name` with the labels of the layer `digest` in a pull.
fn add_layer(state: &mut State, name: &str, parent: &str, chain_id: &str, digest: &str) {
    create(state, "active", Kind::Active, parent).unwrap();
    commit(state, "active", name, &[(labels::SNAPSHOT_REF, chain_id), (labels::LAYER_DIGEST, digest)]).unwrap();
}

#[test]
fn a_layer_is_found_by_its_chain_id_digest_and_parent() {
    let chain = &ChainId(Digest::sha256(b"layer")).to_string();
    let mut state = State::default();
    let names = [format!("k8s.io/1/{chain}"), format!("k8s.io/2/{chain}")];
    add_layer(&mut state, &names[0], "", chain, "sha256:blob");
    add_layer(&mut state, "base", "", "sha256:base", "sha256:base");
    add_layer(&mut state, &names[1], "base", chain, "sha256:blob");
    let find = |chain_id, digest, parent| {
        let layer = LayerLabels { chain_id, digest, manifest: None, reference: "" };
        state.find_layer(&layer, parent, false)
    };
    let blob = Some("sha256:blob");
    assert_eq!(find(chain, blob, None), Existing::Layer(names[0].clone()));
    assert_eq!(find(chain, blob, Some("base")), Existing::Layer(names[1].clone()));
    assert_eq!(find(chain, blob, Some(&names[0])), Existing::None);
    assert_eq!(find("sha256:y", blob, None), Existing::None);
    assert_eq!(find(chain, Some("sha256:other"), None), Existing::None);
    assert_eq!(find(chain, None, None), Existing::None);
}

#[test]
fn an_unverified_layer_is_found_only_if_trusted_and_excludes_others() {
    let chain = &ChainId(Digest::sha256(b"layer")).to_string();
    let unverified = names::published(1, chain, false);
    for unverified in [unverified.as_str(), "k8s.io/1/other"] {
        let mut state = State::default();
        let verified = format!("k8s.io/2/{chain}");
        add_layer(&mut state, &verified, "", chain, "sha256:good");
        add_layer(&mut state, unverified, "", chain, "sha256:bad");
        let find = |state: &State, digest, trust| {
            let layer = LayerLabels { chain_id: chain, digest: Some(digest), manifest: None, reference: "" };
            state.find_layer(&layer, None, trust)
        };
        for digest in ["sha256:good", "sha256:bad"] {
            assert_eq!(find(&state, digest, false), Existing::Unverified, "{unverified} {digest}");
        }
        assert_eq!(
            find(&state, "sha256:good", true),
            Existing::Unverified,
            "{unverified}: containerd might take the other"
        );
        let change = state.remove(&verified).unwrap().0;
        state.apply(change);
        assert_eq!(find(&state, "sha256:bad", true), Existing::Layer(unverified.to_owned()));
    }
}

#[test]
fn filters_select_by_name_kind_parent_and_label() {
    let mut state = State::default();
    create(&mut state, "k8s.io/1/a", Kind::Active, "").unwrap();
    commit(&mut state, "k8s.io/1/a", "k8s.io/2/base", &[(labels::SNAPSHOT_REF, "sha256:base")]).unwrap();
    create(&mut state, "k8s.io/3/b", Kind::Active, "k8s.io/2/base").unwrap();
    commit(&mut state, "k8s.io/3/b", "k8s.io/4/top", &[(labels::SNAPSHOT_REF, "sha256:top"), ("a.b", "c")]).unwrap();
    create(&mut state, "k8s.io/5/run", Kind::Active, "k8s.io/4/top").unwrap();
    let list = |filters: &[&str]| {
        let filters: Vec<_> = filters.iter().map(|text| Filter::parse(text).unwrap()).collect();
        state.list(&filters).map(|(name, _)| name.rsplit('/').next().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(list(&[]), "base top run");
    assert_eq!(list(&[r#"labels."containerd.io/snapshot.ref"==sha256:top,parent=="k8s.io/2/base""#]), "top");
    assert_eq!(list(&[r#"labels."containerd.io/snapshot.ref"==sha256:base,parent=="""#]), "base");
    assert_eq!(list(&[r#"labels."containerd.io/snapshot.ref"==sha256:top,parent=="""#]), "");
    assert_eq!(list(&["kind==active"]), "run");
    assert_eq!(list(&["kind==active", r#"name=="k8s.io/2/base""#]), "base run");
    assert_eq!(list(&["kind!=active"]), "base top");
    assert_eq!(list(&["labels.a.b"]), "top");
    assert_eq!(list(&[r#"name~="/[45]/""#]), "top run");
}
