//! Results of a bundle lookup: of one source, and of all sources together.

use std::sync::Arc;
use std::time::Instant;

use bundles::bundle::Bundle;
use bundles::image::ChainId;
use bundles::store::Origin;
use tokio::sync::OwnedSemaphorePermit;
use tracing::{debug, info, warn};

use crate::bundle_memory::{HeldBundle, MemoryError};
use crate::request::image_query::ImageQuery;

/// A bundle and its source.
#[derive(Debug)]
pub struct FoundBundle {
    /// The bundle.
    pub bundle: HeldBundle,
    /// "store", a path below a mount, "registry" and a reference, or "request".
    pub source: String,
    /// Whether the store has it.
    pub is_kept: bool,
}

impl FoundBundle {
    /// A bundle from the store.
    pub fn stored(bundle: HeldBundle) -> Self {
        Self { bundle, source: STORE.into(), is_kept: true }
    }

    /// A bundle that a client has sent.
    pub fn sent(bundle: HeldBundle) -> Self {
        Self { bundle, source: "request".into(), is_kept: false }
    }

    /// Whether the bundle comes from the store.
    pub fn is_stored(&self) -> bool {
        self.source == STORE
    }
}

/// A bundle that was found outside of the store, with what the store keeps of it.
pub(super) struct Fetched {
    pub(super) bundle: HeldBundle,
    pub(super) file: Arc<Vec<u8>>,
    pub(super) source: String,
    pub(super) origin: Origin,
    /// The source reads one file at a time. Held until the file is no longer in memory.
    pub(super) _reading: OwnedSemaphorePermit,
}

/// The source of a bundle that comes from the store.
pub(super) const STORE: &str = "store";

/// Result of a lookup in all sources.
#[derive(Debug)]
pub enum Lookup {
    /// A bundle for the image.
    Found(Box<FoundBundle>),
    /// No source has a bundle.
    Absent,
    /// No bundle was found, and a source did not respond, for this reason.
    Incomplete(String),
    /// A bundle was found that cannot be used, for this reason.
    Unusable(String),
}

/// A bundle of the store.
#[derive(Debug)]
pub struct Stored {
    /// The bundle.
    pub bundle: HeldBundle,
    /// What it is compared by with the bundle in its repository.
    pub known: StoredOrigin,
}

/// Image of a stored bundle, and where it came from.
#[derive(Debug)]
pub struct StoredOrigin {
    pub(super) chain: ChainId,
    pub(super) origin: Option<Origin>,
}

/// Result of comparing a stored bundle with the one in its repository or registry.
#[derive(Debug)]
pub enum Freshness {
    /// It has the same bundle, or does not respond.
    Current,
    /// It has another bundle.
    Replaced(Box<FoundBundle>),
    /// It has no bundle for the image any more.
    Removed,
}

/// Why a source gave no bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LookupError {
    Absent,
    /// The repository is mounted and has bundles, but none for this image.
    Removed,
    NoAnswer(String),
    Unusable(String),
}

impl LookupError {
    /// The error of a bundle of `source` that was not decoded.
    pub(super) fn not_decoded(source: &str, error: &MemoryError) -> Self {
        let reason = format!("{source}: {error}");
        match error {
            MemoryError::Format(_) | MemoryError::TooLarge { .. } => Self::Unusable(reason),
            MemoryError::Full { .. } | MemoryError::Died(_) => Self::NoAnswer(reason),
        }
    }
}

/// Errors of the sources that were searched. An unusable bundle outranks a source that did not respond.
#[derive(Debug, Default)]
pub struct LookupErrors {
    unusable: Option<String>,
    no_answer: Option<String>,
}

impl LookupErrors {
    pub(super) fn add(&mut self, error: LookupError) {
        match error {
            LookupError::Absent | LookupError::Removed => {}
            LookupError::Unusable(reason) => _ = self.unusable.get_or_insert(reason),
            LookupError::NoAnswer(reason) => _ = self.no_answer.get_or_insert(reason),
        }
    }

    pub(super) fn into_lookup(self) -> Lookup {
        match (self.unusable, self.no_answer) {
            (Some(reason), _) => Lookup::Unusable(reason),
            (None, Some(reason)) => Lookup::Incomplete(reason),
            (None, None) => Lookup::Absent,
        }
    }
}

/// Logs the result of a lookup in one source.
pub(super) fn log(source: &str, started: Instant, result: Result<Option<&Bundle>, &LookupError>) {
    let took_us = started.elapsed().as_micros() as u64;
    match result {
        Ok(Some(bundle)) => info!(source, took_us, objects = bundle.objects.len(), "bundle found"),
        Ok(None) => debug!(source, took_us, "stored bundle is current"),
        Err(LookupError::Absent | LookupError::Removed) => debug!(source, took_us, "no bundle found"),
        Err(LookupError::NoAnswer(error)) => warn!(source, took_us, error, "bundle lookup failed"),
        Err(LookupError::Unusable(error)) => warn!(source, took_us, error, "bundle cannot be used"),
    }
}

/// Refuses a bundle that belongs to another image than its name in the source says.
pub(super) fn check_image(source: &str, bundle: &Bundle, query: &ImageQuery) -> Result<(), LookupError> {
    if query.is(&bundle.image) {
        return Ok(());
    }
    let chain = bundle.image.chain_id;
    let expected = query.to_api();
    Err(LookupError::Unusable(format!(
        "{source}: this bundle is for the image with chain ID {chain}, not for chain ID {:?} or manifest {:?}; publish it again",
        expected.chain_id, expected.manifest_digest
    )))
}
