//! The root: the database and the directories of snapshots, kept consistent. All functions block.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use containerd_snapshots::api::types::Mount;

use crate::error::Error;
use crate::metrics::{DeferredRemoval, Metrics};
use crate::overlay;
use crate::snapshots::directories::{Directories, DiskError};
use crate::snapshots::labels::{self, Labels};
use crate::snapshots::state::{State, StateError};
use crate::snapshots::store::Store;
use crate::snapshots::usage::measure;
use crate::snapshots::{Kind, Snapshot, Usage};

/// The configured `root`. One process can have it open.
#[derive(Debug)]
pub struct Root {
    /// The records of all snapshots.
    pub store: Arc<Store>,
    /// The files of all snapshots.
    pub directories: Directories,
    /// Shared with the rest of the service.
    pub metrics: Arc<Metrics>,
    index_off: bool,
}

impl Root {
    /// Opens the root at `path`, deletes what a crash left over, and registers the number of snapshots as a metric.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let directories = Directories::open(path)?;
        let store = Arc::new(Store::open(&directories.metadata())?);
        let metrics = Arc::new(Metrics::new().with_snapshots_of(Arc::clone(&store)));
        let root = Self { store, directories, metrics, index_off: overlay::index_can_be_off() };
        root.remove_records_without_directory()?;
        root.clean_up()?;
        Ok(root)
    }

    /// Removes snapshots that have no directory. No caller knows of them: the write of their records failed, and yet reached the disk.
    fn remove_records_without_directory(&self) -> Result<(), Error> {
        let present: HashSet<u64> = self.directories.ids()?.into_iter().collect();
        let missing = |state: &State| -> Vec<String> {
            let missing = state.iter().filter(|(_, snapshot)| !present.contains(&snapshot.id));
            missing.map(|(name, _)| name.clone()).collect()
        };
        for name in self.store.read(missing) {
            match self.store.update(|state| state.remove(&name).map_err(Error::from)) {
                Ok(_) => tracing::warn!(name, "removed a snapshot that has no directory"),
                Err(error) => tracing::error!(name, %error, "a snapshot has no directory"),
            }
        }
        Ok(())
    }

    /// The mounts of a snapshot, for containerd.
    pub fn mounts(&self, state: &State, snapshot: &Snapshot) -> Result<Vec<Mount>, StateError> {
        Ok(overlay::mounts(snapshot, &state.ancestors(snapshot)?, &self.directories, self.index_off))
    }

    /// Calls `create` with a new id. If no snapshot has the id afterwards, its directory is deleted again.
    pub fn with_new_directory<T>(&self, create: impl FnOnce(u64) -> Result<T, Error>) -> Result<T, Error> {
        let reservation = self.store.reserve();
        let id = reservation.id();
        let result = create(id);
        drop(reservation);
        if !self.store.used_ids().contains(&id) {
            self.delete_directory(id);
        }
        result
    }

    /// Commits the active snapshot `key` as `name`.
    pub fn commit(&self, name: &str, key: &str, labels: Labels) -> Result<(), Error> {
        labels::check(&labels)?;
        let active = self.store.read(|state| state.check_commit(key, name).cloned())?;
        // A layer is worth more than its size: it is committed even if that cannot be measured.
        let usage = self.measure(active.id).unwrap_or_else(|error| {
            tracing::warn!(name, %error, "a layer is committed without its size");
            Usage::default()
        });
        self.store.update(|state| Ok((state.commit(key, name, labels, usage, SystemTime::now())?, ())))
    }

    /// Disk usage of the snapshot `key`.
    pub fn usage(&self, key: &str) -> Result<Usage, Error> {
        let snapshot = self.store.read(|state| state.get(key).cloned())?;
        if snapshot.kind == Kind::Active { Ok(self.measure(snapshot.id)?) } else { Ok(snapshot.usage) }
    }

    fn measure(&self, id: u64) -> Result<Usage, DiskError> {
        let files = self.directories.files(id);
        measure(&files).map_err(DiskError::new("measure", files))
    }

    /// Removes the snapshot `key`.
    pub fn remove(&self, key: &str) -> Result<(), Error> {
        if self.store.forget_damaged(key)? {
            return Ok(());
        }
        let removed = self.store.update(|state| state.remove(key).map_err(Error::from))?;
        self.delete_directory(removed.id);
        if let Some(layer) = removed.cvmfs()
            && let Err(error) = self.store.forget_unused_layer(&layer.repository, &layer.digest)
        {
            tracing::warn!(%error, "cannot delete the scan of a layer; the next start tries again");
        }
        Ok(())
    }

    /// Deletes the directories that belong to no snapshot.
    pub fn clean_up(&self) -> Result<(), Error> {
        // In this order: a directory that is made after the listing is not in it.
        let present = self.directories.ids()?;
        let used = self.store.used_ids();
        // A directory without a record may be that of a snapshot whose record is damaged, and a container may use it.
        if let [first, ..] = self.store.damaged().as_slice() {
            tracing::warn!(snapshot = first, "directories are not cleaned up: the record of a snapshot is damaged");
            return Ok(());
        }
        for id in present.into_iter().filter(|id| !used.contains(id)) {
            self.delete_directory(id);
        }
        Ok(())
    }

    /// Deletes the directory of a removed snapshot. If that fails, the next clean-up tries again.
    fn delete_directory(&self, id: u64) {
        if let Err(error) = self.directories.remove(id) {
            self.metrics.deferred_removals.increment(DeferredRemoval::Disk);
            tracing::warn!(%error, "cannot delete the directory of a removed snapshot; the next clean-up tries again");
        }
    }
}
