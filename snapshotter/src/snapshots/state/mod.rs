//! The rules of snapshots, as in containerd's own overlayfs snapshotter. No disk and no clock: both are passed in.
//!
//! An operation reads the state and returns the change it would make; the store writes the change to disk and only then
//! applies it here. The order of the checks is containerd's, because it decides which error a caller sees.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::SystemTime;

use bundles::image::Digest;

use super::filter::Filter;
use super::labels::{self, LabelTooLarge, Labels, LayerLabels, without_empty};
use super::names::verified_chain_id;
use super::{Content, Kind, Snapshot, Usage};

/// Why a snapshot cannot be found, made, committed, removed or updated.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// The key or name is taken.
    #[error("snapshot {0:?} already exists")]
    AlreadyExists(String),
    /// There is no snapshot with this key or name.
    #[error("snapshot {0:?} does not exist")]
    NotFound(String),
    /// Only active snapshots can be committed.
    #[error("snapshot {0:?} is not active, so it cannot be committed")]
    NotActive(String),
    /// Other snapshots are based on this one.
    #[error("cannot remove snapshot {0:?}: it has children")]
    HasChildren(String),
    /// containerd sent an empty key.
    #[error("a snapshot needs a key")]
    EmptyKey,
    /// containerd sent an empty name for a commit.
    #[error("a committed snapshot needs a name")]
    EmptyName,
    /// Only committed snapshots can be parents.
    #[error("parent {0:?} is not a committed snapshot")]
    ParentNotCommitted(String),
    /// Everything but labels is fixed.
    #[error("cannot update the field {field:?} of snapshot {name:?}: only labels can be updated")]
    FixedField {
        /// The field in the request.
        field: String,
        /// The snapshot in the request.
        name: String,
    },
    /// A label is larger than containerd allows.
    #[error(transparent)]
    Label(#[from] LabelTooLarge),
}

/// Whether a requested layer is there already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Existing {
    /// No snapshot has its digest and chain ID. Others with the same chain ID, if any, have the same files.
    None,
    /// This snapshot is the layer.
    Layer(String),
    /// A snapshot has the chain ID, but nobody verified that, or it is another layer.
    Unverified,
}

/// All snapshots.
#[derive(Debug, Default)]
pub struct State {
    snapshots: BTreeMap<String, Snapshot>,
    /// Number of snapshots that have this one as parent.
    children: HashMap<String, usize>,
}

/// What an operation changes.
#[derive(Debug, Default)]
pub struct Change {
    /// The snapshot to remove.
    pub remove: Option<String>,
    /// The snapshot to add or replace.
    pub put: Option<(String, Snapshot)>,
}

impl State {
    /// Applies a change that is on disk.
    pub fn apply(&mut self, change: Change) {
        if let Some(name) = change.remove
            && let Some(old) = self.snapshots.remove(&name)
        {
            self.unlink(&old);
        }
        if let Some((name, snapshot)) = change.put {
            if let Some(parent) = &snapshot.parent {
                *self.children.entry(parent.clone()).or_default() += 1;
            }
            if let Some(old) = self.snapshots.insert(name, snapshot) {
                self.unlink(&old);
            }
        }
    }

    fn unlink(&mut self, child: &Snapshot) {
        if let Some(parent) = &child.parent
            && let Some(count) = self.children.get_mut(parent)
        {
            *count -= 1;
            if *count == 0 {
                self.children.remove(parent);
            }
        }
    }

    /// The snapshot with this name.
    pub fn get(&self, name: &str) -> Result<&Snapshot, StateError> {
        self.snapshots.get(name).ok_or_else(|| StateError::NotFound(name.to_owned()))
    }

    /// All snapshots, ordered by name.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Snapshot)> {
        self.snapshots.iter()
    }

    /// The snapshots that match any of the filters; all snapshots if there are no filters.
    pub fn list<'a>(&'a self, filters: &'a [Filter]) -> impl Iterator<Item = (&'a String, &'a Snapshot)> {
        self.iter().filter(move |(name, snapshot)| {
            filters.is_empty() || filters.iter().any(|filter| filter.matches(|path| field(name, snapshot, path)))
        })
    }

    /// The chain IDs of the images on this node: of the committed snapshots that are no parent of a committed one.
    pub fn images(&self) -> Vec<String> {
        let committed = || self.iter().filter(|(_, snapshot)| snapshot.kind == Kind::Committed);
        let parents: HashSet<&str> = committed().filter_map(|(_, snapshot)| snapshot.parent.as_deref()).collect();
        let images = committed().filter(|(name, _)| !parents.contains(name.as_str()));
        let chain_ids: BTreeSet<&String> = images.filter_map(|(_, top)| top.labels.get(labels::SNAPSHOT_REF)).collect();
        chain_ids.into_iter().cloned().collect()
    }

    /// Repository and digest of the published layers that snapshots have.
    pub fn layers(&self) -> impl Iterator<Item = (&str, &Digest)> {
        self.snapshots.values().filter_map(Snapshot::cvmfs).map(|layer| (layer.repository.as_str(), &layer.digest))
    }

    /// The chain of parents of `snapshot`, nearest first.
    pub fn ancestors(&self, snapshot: &Snapshot) -> Result<Vec<&Snapshot>, StateError> {
        self.chain(snapshot.parent.as_deref())
    }

    /// The snapshot `top` and its ancestors, nearest first; empty without `top`.
    pub fn chain(&self, top: Option<&str>) -> Result<Vec<&Snapshot>, StateError> {
        let mut chain = Vec::new();
        let mut next = top;
        while let Some(name) = next {
            let snapshot = self.get(name)?;
            chain.push(snapshot);
            next = snapshot.parent.as_deref();
        }
        Ok(chain)
    }

    /// Checks that a snapshot `key` can be created on `parent`.
    pub fn check_new(&self, key: &str, parent: Option<&str>) -> Result<(), StateError> {
        if key.is_empty() {
            return Err(StateError::EmptyKey);
        }
        if let Some(parent) = parent
            && self.get(parent)?.kind != Kind::Committed
        {
            return Err(StateError::ParentNotCommitted(parent.to_owned()));
        }
        if self.snapshots.contains_key(key) {
            return Err(StateError::AlreadyExists(key.to_owned()));
        }
        Ok(())
    }

    /// Creates a snapshot: an active one, a view, or the committed snapshot of a published layer.
    pub fn create(&self, key: &str, new: NewSnapshot) -> Result<Change, StateError> {
        self.check_new(key, new.parent.as_deref())?;
        Ok(put(key, new.snapshot()))
    }

    /// Looks for the requested layer on `parent`, among the committed snapshots of all namespaces. `trust_unverified`: snapshots whose
    /// chain ID was not verified count as well.
    ///
    /// If a Prepare is answered with `AlreadyExists`, containerd takes any committed snapshot with this chain ID and parent. So one that
    /// must not be taken excludes that answer, whatever else there is.
    pub fn find_layer(&self, layer: &LayerLabels<'_>, parent: Option<&str>, trust_unverified: bool) -> Existing {
        let candidates = self.iter().filter(|(_, snapshot)| {
            snapshot.kind == Kind::Committed
                && snapshot.parent.as_deref() == parent
                && snapshot.labels.get(labels::SNAPSHOT_REF).is_some_and(|reference| reference == layer.chain_id)
        });
        let mut existing = Existing::None;
        for (name, snapshot) in candidates {
            let is_same =
                layer.digest.is_some_and(|digest| snapshot.layer_digest().is_some_and(|found| found == digest));
            let is_verified = verified_chain_id(name).is_some_and(|found| found.to_string() == layer.chain_id);
            let is_allowed = is_verified || (trust_unverified && is_same);
            if !is_allowed {
                return Existing::Unverified;
            }
            if is_same && existing == Existing::None {
                existing = Existing::Layer(name.clone());
            }
        }
        existing
    }

    /// The snapshot `key`, if it can be committed as `name`.
    pub fn check_commit(&self, key: &str, name: &str) -> Result<&Snapshot, StateError> {
        let active = self.get(key)?;
        if name.is_empty() {
            return Err(StateError::EmptyName);
        }
        if self.snapshots.contains_key(name) {
            return Err(StateError::AlreadyExists(name.to_owned()));
        }
        if active.kind != Kind::Active {
            return Err(StateError::NotActive(key.to_owned()));
        }
        Ok(active)
    }

    /// Commits the snapshot `key` under `name`. The labels are replaced, not inherited.
    pub fn commit(
        &self,
        key: &str,
        name: &str,
        labels: Labels,
        usage: Usage,
        now: SystemTime,
    ) -> Result<Change, StateError> {
        let active = self.check_commit(key, name)?;
        let committed = Snapshot {
            kind: Kind::Committed,
            labels: without_empty(labels),
            created: now,
            updated: now,
            usage,
            ..active.clone()
        };
        Ok(Change { remove: Some(key.to_owned()), ..put(name, committed) })
    }

    /// Removes a snapshot without children, and returns it.
    pub fn remove(&self, key: &str) -> Result<(Change, Snapshot), StateError> {
        let snapshot = self.get(key)?.clone();
        if self.children.contains_key(key) {
            return Err(StateError::HasChildren(key.to_owned()));
        }
        Ok((Change { remove: Some(key.to_owned()), put: None }, snapshot))
    }

    /// Sets the labels named by `fields` (`labels` or `labels.<key>`); without fields, sets all labels.
    pub fn update(&self, name: &str, given: &Labels, fields: &[String], now: SystemTime) -> Result<Change, StateError> {
        let mut snapshot = self.get(name)?.clone();
        if fields.is_empty() {
            snapshot.labels = given.clone();
        }
        for field in fields {
            if let Some(key) = field.strip_prefix("labels.") {
                snapshot.labels.insert(key.to_owned(), given.get(key).cloned().unwrap_or_default());
            } else if field == "labels" {
                snapshot.labels = given.clone();
            } else {
                return Err(StateError::FixedField { field: field.clone(), name: name.to_owned() });
            }
        }
        labels::check(&snapshot.labels)?;
        snapshot.labels = without_empty(snapshot.labels);
        snapshot.updated = now;
        Ok(put(name, snapshot))
    }
}

/// A snapshot to create.
#[derive(Debug)]
pub struct NewSnapshot {
    /// Reserved for this snapshot; its directory exists already.
    pub id: u64,
    /// What can be done with the snapshot.
    pub kind: Kind,
    /// Name of the parent.
    pub parent: Option<String>,
    /// Labels from the request.
    pub labels: Labels,
    /// Where the files are.
    pub content: Content,
    /// The time of creation.
    pub now: SystemTime,
}

impl NewSnapshot {
    fn snapshot(self) -> Snapshot {
        Snapshot {
            id: self.id,
            kind: self.kind,
            parent: self.parent,
            labels: without_empty(self.labels),
            created: self.now,
            updated: self.now,
            usage: Usage::default(),
            content: self.content,
        }
    }
}

fn put(name: &str, snapshot: Snapshot) -> Change {
    Change { remove: None, put: Some((name.to_owned(), snapshot)) }
}

/// The value of a field that a filter names.
fn field<'a>(name: &'a str, snapshot: &'a Snapshot, path: &[String]) -> Option<&'a str> {
    let (first, rest) = path.split_first()?;
    match first.as_str() {
        "name" => Some(name),
        "parent" => Some(snapshot.parent.as_deref().unwrap_or_default()),
        "kind" => Some(snapshot.kind.as_str()),
        "labels" => snapshot.labels.get(&rest.join(".")).map(String::as_str),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
