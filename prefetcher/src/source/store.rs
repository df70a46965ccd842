//! Lookups in the daemon's own store.

use bundles::store::{Store, StoreError, StoredBundle};
use prometheus_client::metrics::counter::Counter;

use crate::request::image_query::ImageQuery;

/// The bundles in the store, each as `view` shows it; counts damaged ones.
pub(super) fn list<T>(
    store: &Store,
    damaged: &Counter,
    view: impl FnMut(&StoredBundle) -> T,
) -> Result<Vec<T>, StoreError> {
    let listed = store.list(view)?;
    damaged.inc_by(listed.damaged as u64);
    Ok(listed.bundles)
}

/// An image's bundle, by its most specific name. The store has no index of references: all bundles are read.
pub(super) fn find(store: &Store, damaged: &Counter, query: &ImageQuery) -> Result<Option<StoredBundle>, StoreError> {
    if let Some(chain) = &query.chain
        && let Some(stored) = store.by_chain(chain)?
    {
        return Ok(Some(stored));
    }
    if let Some(manifest) = &query.manifest {
        return store.by_manifest(manifest);
    }
    if query.only_reference().is_none() {
        return Ok(None);
    }
    let named = |stored: &StoredBundle| {
        let image = &stored.bundle.image;
        query.is(image).then_some((stored.facts.used, image.chain_id))
    };
    let last_used = list(store, damaged, named)?.into_iter().flatten().max_by_key(|(used, _)| *used);
    last_used.map_or(Ok(None), |(_, chain)| store.by_chain(&chain))
}
