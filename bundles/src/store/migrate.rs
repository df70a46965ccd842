//! Migration from older layouts, one step per layout.
//!
//! A step is one synced batch: a crash leaves the old or the new layout, never a mixture, and the next start continues.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::SystemTime;

use rocksdb::{DB, IteratorMode, WriteBatch, WriteOptions};
use tracing::info;

use super::facts::time;
use super::layout::{BUNDLES, FACTS, MANIFESTS, SCHEMA_KEY, failed};
use super::{Facts, Origin, SCHEMA, StoreError};
use crate::bundle::Bundle;

/// Migrates the layout `found` (`None`: a new store) to this program's.
pub(super) fn migrate(database: &DB, path: &Path, found: Option<u32>) -> Result<(), StoreError> {
    let step = |from: u32| {
        let mut batch = WriteBatch::default();
        // Layout 2 did not store published packs: they are looked up again.
        if from == 1 {
            from_1(database, &mut batch)?;
        }
        if from == 3 {
            from_3(database, &mut batch)?;
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
            batch.put_cf(facts, &chain, facts_of_layout_3(value.len() as u64, SystemTime::now()));
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

/// Facts of layouts 2 and 3 about a bundle without an origin.
fn facts_of_layout_3(size: u64, used: SystemTime) -> Vec<u8> {
    let since = used.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    [size.to_le_bytes(), (since.as_micros() as u64).to_le_bytes()].concat()
}

/// Layout 3 had facts of fixed length with an origin behind them: mount point, NUL, version. Those that cannot be read are removed,
/// and their bundles with the next lookup.
fn from_3(database: &DB, batch: &mut WriteBatch) -> Result<(), rocksdb::Error> {
    let Some(family) = database.cf_handle(FACTS) else { return Ok(()) };
    for row in database.iterator_cf(family, IteratorMode::Start) {
        let (chain, value) = row?;
        match read_facts_of_layout_3(&value).and_then(|facts| facts.to_bytes().ok()) {
            Some(facts) => batch.put_cf(family, &chain, facts),
            None => batch.delete_cf(family, &chain),
        }
    }
    Ok(())
}

fn read_facts_of_layout_3(bytes: &[u8]) -> Option<Facts> {
    let (size, rest) = bytes.split_first_chunk()?;
    let (used, rest) = rest.split_first_chunk()?;
    let origin = match rest {
        [] => None,
        _ => {
            let end = rest.iter().position(|byte| *byte == 0)?;
            let version = String::from_utf8(rest[end + 1..].to_vec()).ok()?;
            Some(Origin::Repository { mount: OsStr::from_bytes(&rest[..end]).into(), version })
        }
    };
    Some(Facts::new(u64::from_le_bytes(*size), time(u64::from_le_bytes(*used))?, origin))
}
