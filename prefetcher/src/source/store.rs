//! Lookups in the daemon's own store. Files are read here, on a thread that may block, and decoded by the caller.

use bundles::store::{Store, StoreError, StoredFile};

use crate::request::image_query::ImageQuery;

/// The file of an image's bundle, by its most specific name. The store has no index of references.
pub(super) fn find(store: &Store, query: &ImageQuery) -> Result<Option<StoredFile>, StoreError> {
    if let Some(chain) = &query.chain
        && let Some(stored) = store.file_by_chain(chain)?
    {
        return Ok(Some(stored));
    }
    query.manifest.as_ref().map_or(Ok(None), |manifest| store.file_by_manifest(manifest))
}
