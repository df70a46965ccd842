//! From older layouts to this one, one step for each.
//!
//! A step is one synced batch, so that a crash leaves either layout and no mixture; after one the next start goes on.

use std::path::Path;
use std::time::SystemTime;

use rocksdb::{DB, IteratorMode, WriteBatch, WriteOptions};
use tracing::info;

use super::layout::{BUNDLES, FACTS, MANIFESTS, SCHEMA, SCHEMA_KEY, failed};
use super::{Facts, StoreError};
use crate::bundle::Bundle;

/// Makes the layout `found` (none: a new store) the one of this program.
pub(super) fn migrate(database: &DB, path: &Path, found: Option<u32>) -> Result<(), StoreError> {
    let step = |from: u32| {
        let mut batch = WriteBatch::default();
        // Layout 2 had no places of packs: they are found again.
        if from == 1 {
            from_1(database, &mut batch)?;
        }
        batch.put(SCHEMA_KEY, (from + 1).to_le_bytes());
        let mut synced = WriteOptions::default();
        synced.set_sync(true);
        database.write_opt(batch, &synced)
    };
    // A new store has all families already, and nothing in them: only the last version is to be noted.
    (found.unwrap_or(SCHEMA - 1).max(1)..SCHEMA).try_for_each(step).map_err(|e| failed(path, e))
}

/// Layout 1 had no facts, and mostly bundles of format 1, which is no longer read: those go, with what leads to them.
fn from_1(database: &DB, batch: &mut WriteBatch) -> Result<(), rocksdb::Error> {
    let (Some(bundles), Some(manifests), Some(facts)) =
        (database.cf_handle(BUNDLES), database.cf_handle(MANIFESTS), database.cf_handle(FACTS))
    else {
        return Ok(());
    };
    let (mut kept, mut dropped) = (std::collections::HashSet::new(), 0);
    for row in database.iterator_cf(bundles, IteratorMode::Start) {
        let (chain, value) = row?;
        if Bundle::from_bytes(&value).is_ok() {
            let known = Facts { size: value.len() as u64, used: SystemTime::now(), origin: None };
            batch.put_cf(facts, &chain, known.to_bytes());
            kept.insert(chain);
        } else {
            batch.delete_cf(bundles, &chain);
            dropped += 1;
        }
    }
    for row in database.iterator_cf(manifests, IteratorMode::Start) {
        let (manifest, chain) = row?;
        if !kept.contains(&chain) {
            batch.delete_cf(manifests, manifest);
        }
    }
    if dropped > 0 || !kept.is_empty() {
        info!(kept = kept.len(), dropped, "bundle store updated to layout 2: bundles of format 1 are fetched again");
    }
    Ok(())
}
