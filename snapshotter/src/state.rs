//! The rules of snapshots, as containerd's own overlayfs snapshotter has them. No disk, no clock: those are passed in.
//!
//! An operation looks at the state and says what would change; [`crate::store`] writes that down and only then applies
//! it. The order of the checks is containerd's, because it decides which error a caller sees.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::SystemTime;

use crate::error::Error;
use crate::filter::Filter;
use crate::labels::{self, Labels, without_empty};
use crate::snapshot::{Content, Kind, Snapshot, Usage, label};

/// All snapshots.
#[derive(Debug, Default)]
pub struct State {
    snapshots: BTreeMap<String, Snapshot>,
    /// How many snapshots have this one as parent.
    children: HashMap<String, usize>,
}

/// What an operation changes.
#[derive(Debug, Default)]
pub struct Change {
    /// These names go.
    pub remove: Option<String>,
    /// These are new, or replaced.
    pub put: Option<(String, Snapshot)>,
}

impl State {
    /// Applies what was written down.
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

    /// The snapshot of this name.
    pub fn get(&self, name: &str) -> Result<&Snapshot, Error> {
        self.snapshots.get(name).ok_or_else(|| Error::NotFound(name.to_owned()))
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Snapshot)> {
        self.snapshots.iter()
    }

    /// Those that any of the filters lets through; all if there are none.
    pub fn list<'a>(&'a self, filters: &'a [Filter]) -> impl Iterator<Item = (&'a String, &'a Snapshot)> {
        self.iter().filter(move |(name, snapshot)| {
            filters.is_empty() || filters.iter().any(|filter| filter.matches(|path| field(name, snapshot, path)))
        })
    }

    /// The chain IDs of the images that are here: committed snapshots on which no other is.
    pub fn images(&self) -> Vec<String> {
        let committed = || self.iter().filter(|(_, snapshot)| snapshot.kind == Kind::Committed);
        let parents: HashSet<&str> = committed().filter_map(|(_, snapshot)| snapshot.parent.as_deref()).collect();
        let images = committed().filter(|(name, _)| !parents.contains(name.as_str()));
        let chains: BTreeSet<&String> = images.filter_map(|(_, top)| top.labels.get(label::SNAPSHOT_REF)).collect();
        chains.into_iter().cloned().collect()
    }

    /// The chain of parents of `snapshot`, nearest first.
    pub fn ancestors(&self, snapshot: &Snapshot) -> Result<Vec<&Snapshot>, Error> {
        let mut chain = Vec::new();
        let mut next = snapshot.parent.as_deref();
        while let Some(name) = next {
            let parent = self.get(name)?;
            chain.push(parent);
            next = parent.parent.as_deref();
        }
        Ok(chain)
    }

    /// Whether a snapshot `key` could be made on `parent`.
    pub fn check_new(&self, key: &str, parent: Option<&str>) -> Result<(), Error> {
        if key.is_empty() {
            return Err(Error::InvalidArgument("a snapshot needs a key".to_owned()));
        }
        if let Some(parent) = parent
            && self.get(parent)?.kind != Kind::Committed
        {
            return Err(Error::InvalidArgument(format!("parent {parent:?} is not a committed snapshot")));
        }
        if self.snapshots.contains_key(key) {
            return Err(Error::AlreadyExists(key.to_owned()));
        }
        Ok(())
    }

    /// Makes an active snapshot or a view.
    pub fn create(&self, key: &str, new: New) -> Result<Change, Error> {
        self.check_new(key, new.parent.as_deref())?;
        Ok(put(key, new.snapshot()))
    }

    /// A committed snapshot that is the layer `target` on `parent`, whoever made it.
    pub fn find_layer(&self, target: &str, parent: Option<&str>) -> Option<&str> {
        self.iter()
            .find(|(_, snapshot)| {
                snapshot.kind == Kind::Committed
                    && snapshot.parent.as_deref() == parent
                    && snapshot.labels.get(label::SNAPSHOT_REF).is_some_and(|reference| reference == target)
            })
            .map(|(name, _)| name.as_str())
    }

    /// The snapshot `key`, if it can be committed as `name`.
    pub fn check_commit(&self, key: &str, name: &str) -> Result<&Snapshot, Error> {
        let active = self.get(key)?;
        if name.is_empty() {
            return Err(Error::InvalidArgument("a committed snapshot needs a name".to_owned()));
        }
        if self.snapshots.contains_key(name) {
            return Err(Error::AlreadyExists(name.to_owned()));
        }
        if active.kind != Kind::Active {
            return Err(Error::FailedPrecondition(format!("snapshot {key:?} is not active")));
        }
        Ok(active)
    }

    /// Makes `key` a committed snapshot of the name `name`. The labels are replaced, not inherited.
    pub fn commit(
        &self,
        key: &str,
        name: &str,
        labels: Labels,
        usage: Usage,
        now: SystemTime,
    ) -> Result<Change, Error> {
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

    /// Removes a snapshot that nothing is based on.
    pub fn remove(&self, key: &str) -> Result<(Change, Snapshot), Error> {
        let snapshot = self.get(key)?.clone();
        if self.children.contains_key(key) {
            return Err(Error::FailedPrecondition(format!("cannot remove snapshot {key:?} with children")));
        }
        Ok((Change { remove: Some(key.to_owned()), put: None }, snapshot))
    }

    /// Sets labels: those named by `fields` (`labels`, `labels.<key>`), or all if there are no fields.
    pub fn update(&self, name: &str, given: &Labels, fields: &[String], now: SystemTime) -> Result<Change, Error> {
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
                return Err(Error::InvalidArgument(format!(
                    "cannot update the field {field:?} of snapshot {name:?}: only labels can be updated"
                )));
            }
        }
        labels::check(&snapshot.labels)?;
        snapshot.labels = without_empty(snapshot.labels);
        snapshot.updated = now;
        Ok(put(name, snapshot))
    }
}

/// A snapshot to be made.
#[derive(Debug)]
pub struct New {
    /// Its directory.
    pub id: u64,
    /// Its kind.
    pub kind: Kind,
    /// Its parent.
    pub parent: Option<String>,
    /// Its labels.
    pub labels: Labels,
    /// Where its files are.
    pub content: Content,
    /// Now.
    pub now: SystemTime,
}

impl New {
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

/// What a filter sees of a snapshot.
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
#[path = "state_tests.rs"]
mod tests;
