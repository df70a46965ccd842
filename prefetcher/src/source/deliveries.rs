//! Deliveries of stored bundles: whether a bundle is bad, and how its deliveries end.
//!
//! A bundle is bad if the servers do not have many of its objects, or if the kernel killed the daemon for its memory during its last
//! deliveries. It is not delivered again for [`BAD_FOR`], unless its repository or registry has another bundle, or somebody removes it from the store.

use bundles::image::ChainId;
use bundles::store::{BAD_FOR, Bad, BadReason};
use tokio::task::JoinHandle;
use tracing::{debug, warn};

use super::{FoundBundle, Sources};

/// A delivery that has begun. Dropped without [`UnderDelivery::end`], it has been cancelled, which says nothing about the bundle.
#[derive(Debug)]
pub struct UnderDelivery<'a> {
    sources: &'a Sources,
    /// `None` if the store does not have the bundle.
    chain: Option<ChainId>,
}

/// A bundle is not delivered.
#[derive(Debug, thiserror::Error)]
#[error(
    "bundle {bundle} is not used for {}: {}; publish a new one, or try it again after `cvmfs-prefetch store rm`",
    humantime::format_duration(BAD_FOR),
    reason(*bad)
)]
pub struct BadBundle {
    bundle: String,
    bad: Bad,
}

/// The kernel's count of processes that it killed for memory, since the start of the machine; 0 if it does not say.
pub(super) fn oom_kills() -> u64 {
    let counts = std::fs::read_to_string("/proc/vmstat").unwrap_or_default();
    let count = counts.lines().find_map(|line| line.strip_prefix("oom_kill "));
    count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

fn reason(bad: Bad) -> &'static str {
    match bad.reason {
        BadReason::ObjectsMissing => "the servers do not have many of its objects",
        BadReason::OutOfMemory => "the kernel killed the daemon for its memory during the last deliveries",
    }
}

impl Sources {
    /// Begins a delivery of a bundle, unless it is bad.
    pub async fn deliver(&self, found: &FoundBundle) -> Result<UnderDelivery<'_>, BadBundle> {
        if !found.is_kept {
            return Ok(UnderDelivery { sources: self, chain: None });
        }
        let chain = found.bundle.image.chain_id;
        // Only the first of several at a time counts: if the daemon dies, it dies once.
        let is_first = self.begin(chain);
        let under_delivery = UnderDelivery { sources: self, chain: Some(chain) };
        let oom_kills = self.oom_kills;
        let known = self.with_store(move |store| match is_first {
            true => store.begin_delivery(&chain, oom_kills),
            false => store.facts(&chain),
        });
        let facts = known.await.unwrap_or_else(|error| {
            debug!(%error, "cannot record the begin of a delivery");
            None
        });
        match facts.and_then(|facts| facts.bad_at(std::time::SystemTime::now())) {
            Some(bad) => Err(BadBundle { bundle: found.source.clone(), bad }),
            None => Ok(under_delivery),
        }
    }

    fn begin(&self, chain: ChainId) -> bool {
        let mut deliveries = self.deliveries.lock();
        let number = deliveries.entry(chain).or_default();
        *number += 1;
        *number == 1
    }

    /// Whether it was the last one of the bundle.
    fn end(&self, chain: ChainId) -> bool {
        let mut deliveries = self.deliveries.lock();
        let left = deliveries.get(&chain).map_or(0, |number| number.saturating_sub(1));
        match left {
            0 => _ = deliveries.remove(&chain),
            left => _ = deliveries.insert(chain, left),
        }
        left == 0
    }
}

impl UnderDelivery<'_> {
    /// Ends the delivery. `are_objects_missing`: the servers do not have many of the bundle's objects. Then the bundle is bad when this
    /// returns.
    pub async fn end(mut self, are_objects_missing: bool) {
        if are_objects_missing {
            self.sources.bad.inc();
        }
        if let Some(recorded) = self.record(are_objects_missing.then_some(BadReason::ObjectsMissing)) {
            recorded.await.unwrap_or_else(|error| warn!(%error, "cannot record the end of a delivery"));
        }
    }

    fn record(&mut self, bad: Option<BadReason>) -> Option<JoinHandle<()>> {
        let chain = self.chain.take()?;
        if !self.sources.end(chain) && bad.is_none() {
            return None;
        }
        let store = self.sources.store.clone();
        // Off the asynchronous threads, because others may be syncing a change.
        Some(tokio::task::spawn_blocking(move || {
            store
                .end_delivery(&chain, bad)
                .unwrap_or_else(|error| warn!(%chain, %error, "cannot record the end of a delivery"));
        }))
    }
}

impl Drop for UnderDelivery<'_> {
    fn drop(&mut self) {
        // Nobody waits for it: without it, the delivery could count as one that the daemon did not survive.
        drop(self.record(None));
    }
}
