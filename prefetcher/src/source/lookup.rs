//! What places say of a bundle, and what all of them together come to.

use std::time::{Duration, Instant};

use bundles::bundle::Bundle;
use bundles::image::ChainId;
use bundles::store::Origin;
use tracing::{debug, info, warn};

use crate::request::image_query::ImageQuery;

/// A bundle, and where it was.
#[derive(Debug)]
pub struct Found {
    /// The bundle.
    pub bundle: Bundle,
    /// "store", or a path.
    pub place: String,
}

impl Found {
    /// A bundle that was in the store.
    pub fn stored(bundle: Bundle) -> Self {
        Self { bundle, place: STORE.into() }
    }

    /// Whether it was in the store already.
    pub fn is_stored(&self) -> bool {
        self.place == STORE
    }
}

/// The place of a bundle that comes from the store.
pub(super) const STORE: &str = "store";

/// What a search gave.
#[derive(Debug)]
pub enum Search {
    /// A bundle for the image.
    Found(Box<Found>),
    /// There is none.
    Absent,
    /// There was none, but not all places answered: why not.
    Unsure(String),
    /// There is one that cannot be used: why not.
    Unusable(String),
}

/// A bundle of the store.
#[derive(Debug)]
pub struct AtHand {
    /// The bundle.
    pub bundle: Bundle,
    /// What its repository is asked.
    pub known: Known,
}

/// What is known of a stored bundle: its image, and where it was read from.
#[derive(Debug)]
pub struct Known {
    pub(super) chain: ChainId,
    pub(super) origin: Option<Origin>,
}

/// What the repository of a stored bundle has now.
#[derive(Debug)]
pub enum Compared {
    /// The stored one; or it does not say.
    Same,
    /// Another one.
    Other(Box<Found>),
    /// None.
    Gone,
}

/// Why a place gave no bundle.
pub(super) enum Miss {
    Absent,
    /// The repository is there, has bundles, and none of this image.
    Gone,
    NoAnswer(String),
    Unusable(String),
}

/// What was wrong on the way, worst first.
#[derive(Debug, Default)]
pub struct Troubles {
    unusable: Option<String>,
    no_answer: Option<String>,
}

impl Troubles {
    pub(super) fn note(&mut self, miss: Miss) {
        match miss {
            Miss::Absent | Miss::Gone => {}
            Miss::Unusable(why) => _ = self.unusable.get_or_insert(why),
            Miss::NoAnswer(why) => _ = self.no_answer.get_or_insert(why),
        }
    }

    pub(super) fn search(self) -> Search {
        match (self.unusable, self.no_answer) {
            (Some(why), _) => Search::Unusable(why),
            (None, Some(why)) => Search::Unsure(why),
            (None, None) => Search::Absent,
        }
    }
}

/// Tells what a place has answered.
pub(super) fn note(place: &str, started: Instant, answer: Result<Option<&Bundle>, &Miss>) {
    let took_us = started.elapsed().as_micros() as u64;
    match answer {
        Ok(Some(bundle)) => info!(place, took_us, objects = bundle.objects.len(), "bundle found"),
        Ok(None) => debug!(place, took_us, "the stored bundle is the one here"),
        Err(Miss::Absent | Miss::Gone) => debug!(place, took_us, "no bundle here"),
        Err(Miss::NoAnswer(error)) => warn!(place, took_us, error, "no answer whether there is a bundle"),
        Err(Miss::Unusable(error)) => warn!(place, took_us, error, "bundle cannot be used"),
    }
}

pub(super) fn check_image(place: &str, bundle: &Bundle, wanted: &ImageQuery) -> Result<(), Miss> {
    if wanted.is(&bundle.image) {
        return Ok(());
    }
    let (chain, asked) = (bundle.image.chain_id, wanted.to_api());
    Err(Miss::Unusable(format!(
        "{place}: this bundle is for the image with chain ID {chain}, not for chain ID {:?} or manifest {:?}; publish it again",
        asked.chain_id, asked.manifest_digest
    )))
}

/// Runs `work` on a thread of its own and waits for it until the deadline.
pub(super) async fn within<T: Send + 'static>(
    deadline: Duration,
    what: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let span = tracing::Span::current();
    let task = tokio::task::spawn_blocking(move || span.in_scope(work));
    match tokio::time::timeout(deadline, task).await {
        Ok(Ok(result)) => Ok(result),
        Ok(Err(e)) => Err(format!("{what}: the look-up ended unexpectedly: {e}")),
        Err(_) => Err(format!("{what} did not answer within {} s", deadline.as_secs())),
    }
}
