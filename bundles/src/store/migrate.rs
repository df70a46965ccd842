//! Migration from older layouts, one step per layout.
//!
//! A step is one synced batch: a crash leaves the old or the new layout, never a mixture, and the next start continues.

use std::path::Path;
use std::time::SystemTime;

use rocksdb::{DB, IteratorMode, WriteBatch, WriteOptions};
use tracing::info;

use super::layout::{BUNDLES, FACTS, MANIFESTS, SCHEMA_KEY, failed};
use super::{Facts, SCHEMA, StoreError};
use crate::bundle::Bundle;

/// Migrates the layout `found` (`None`: a new store) to this program's.
pub(super) fn migrate(database: &DB, path: &Path, found: Option<u32>) -> Result<(), StoreError> {
    let step = |from: u32| {
        let mut batch = WriteBatch::default();
        // Layout 2 did not store published packs: they are looked up again.
        if from == 1 {
            from_1(database, &mut batch)?;
        }
        batch.put(SCHEMA_KEY, (from + 1).to_le_bytes());
        let mut synced = WriteOptions::default();
        synced.set_sync(true);
        database.write_opt(batch, &synced)
    };
    // A new store has all column families and no content: only the version must be written.
    (found.unwrap_or(SCHEMA - 1).max(1)..SCHEMA).try_for_each(step).map_err(|e| failed(path, e))
}

/// Layout 1 had no facts, and mostly bundles of format 1, which is no longer read: these are removed with
/// their manifests.
fn from_1(database: &DB, batch: &mut WriteBatch) -> Result<(), rocksdb::Error> {
    let (Some(bundles), Some(manifests), Some(facts)) =
        (database.cf_handle(BUNDLES), database.cf_handle(MANIFESTS), database.cf_handle(FACTS))
    else {
        return Ok(());
    };
    let mut kept = std::collections::HashSet::new();
    let mut dropped = 0;
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
        info!(
            kept = kept.len(),
            dropped, "bundle store migrated to layout 2; bundles of format 1 will be fetched again"
        );
    }
    Ok(())
}
