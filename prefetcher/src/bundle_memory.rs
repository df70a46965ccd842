//! Memory for bundles.
//!
//! A bundle is small as a file and large in memory, and whoever may publish or send one decides how large. So bundles are decoded one
//! at a time, within a fixed amount of memory, and all that running requests hold have a limit together. A request whose
//! bundle does not fit now waits for others to end, with the file only.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use bundles::bundle::Bundle;
use bundles::codec::FormatError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinError;
use tracing::{Span, debug};

/// Bytes of memory for the bundle that is being decoded. Enough for some 60,000 objects.
const DECODING: usize = 48 << 20;
/// Bytes of memory for the bundles of requests, by where these come from: found by the daemon, or sent by a client. Each can hold the
/// largest bundle that is decoded.
const FOUND: usize = 48 << 20;
const SENT: usize = 24 << 20;
/// Bytes of memory that a request takes for each object in addition to the bundle: plan, batches and pending objects.
const PER_OBJECT: usize = 96;
/// Longest wait for memory.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// The unit of permits.
const KIB: usize = 1 << 10;

/// Memory for bundles from one kind of source.
#[derive(Debug, Clone)]
pub struct BundleMemory {
    decoding: Arc<Semaphore>,
    decoding_bytes: usize,
    free: Arc<Semaphore>,
    total: usize,
}

/// A decoded bundle. Its memory counts until it is dropped.
#[derive(Debug)]
pub struct HeldBundle {
    bundle: Arc<Bundle>,
    /// `None` for a bundle in a test.
    _memory: Option<OwnedSemaphorePermit>,
}

/// Why a bundle was not decoded.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The file is no bundle, or one that takes too much memory.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The bundle alone takes more memory than all bundles together may.
    #[error("it takes {needed} bytes of memory, all bundles together have {total}; build it with fewer objects")]
    TooLarge {
        /// What the bundle takes.
        needed: usize,
        /// What there is.
        total: usize,
    },
    /// Other requests hold the memory.
    #[error("the bundles of other requests take the memory for bundles ({} MiB); try again later", .total >> 20)]
    Full {
        /// What there is.
        total: usize,
    },
    /// The thread that decoded it ended, or the daemon is shutting down.
    #[error("the bundle was not decoded: {0}")]
    Died(String),
}

impl BundleMemory {
    /// The memory for bundles that the daemon finds, and that for bundles that clients send. They share the memory for decoding.
    pub fn found_and_sent() -> (Self, Self) {
        let found = Self::new(DECODING, FOUND);
        let sent = Self { free: Arc::new(Semaphore::new(SENT / KIB)), total: SENT, ..found.clone() };
        (found, sent)
    }

    fn new(decoding_bytes: usize, total: usize) -> Self {
        let free = Arc::new(Semaphore::new(total / KIB));
        Self { decoding: Arc::new(Semaphore::new(1)), decoding_bytes, free, total }
    }

    /// Decodes a bundle file and holds the bundle in memory. Waits for memory if there is none now.
    pub async fn decode(&self, file: &Arc<Vec<u8>>) -> Result<HeldBundle, MemoryError> {
        let free = self.free.clone();
        let total = self.total;
        let first = self.decoded(file, move |bundle| {
            let needed = bundle.memory() + bundle.objects.len() * PER_OBJECT;
            if needed > total {
                return Err(MemoryError::TooLarge { needed, total });
            }
            let permits = needed.div_ceil(KIB).max(1) as u32;
            Ok(free.try_acquire_many_owned(permits).map_err(|_| permits).map(|memory| HeldBundle::new(bundle, memory)))
        });
        let permits = match first.await?? {
            Ok(held) => return Ok(held),
            Err(permits) => permits,
        };
        debug!(bytes = permits as usize * KIB, "waiting for memory for a bundle");
        let memory = tokio::time::timeout(MAX_WAIT, self.free.clone().acquire_many_owned(permits)).await;
        let memory = memory.map_err(|_| MemoryError::Full { total })?.map_err(|e| MemoryError::Died(e.to_string()))?;
        // It was not kept in memory meanwhile.
        self.decoded(file, |bundle| HeldBundle::new(bundle, memory)).await
    }

    /// Decodes a bundle file and returns what `view` makes of the bundle, which is not held.
    pub async fn view<T: Send + 'static>(
        &self,
        file: &Arc<Vec<u8>>,
        view: impl FnOnce(&Bundle) -> T + Send + 'static,
    ) -> Result<T, MemoryError> {
        self.decoded(file, move |bundle| view(&bundle)).await
    }

    /// Decodes a bundle while no other one is decoded. `then` is part of that.
    async fn decoded<T: Send + 'static>(
        &self,
        file: &Arc<Vec<u8>>,
        then: impl FnOnce(Bundle) -> T + Send + 'static,
    ) -> Result<T, MemoryError> {
        let decoding = self.decoding.clone().acquire_owned().await.map_err(|e| MemoryError::Died(e.to_string()))?;
        let (file, memory, span) = (file.clone(), self.decoding_bytes, Span::current());
        let task = tokio::task::spawn_blocking(move || {
            let done = span.in_scope(|| Bundle::from_bytes_within(&file, memory).map(then));
            // Also if nobody waits for the result any more.
            drop(decoding);
            done
        });
        Ok(task.await.map_err(|error: JoinError| MemoryError::Died(error.to_string()))??)
    }
}

impl HeldBundle {
    fn new(bundle: Bundle, memory: OwnedSemaphorePermit) -> Self {
        Self { bundle: Arc::new(bundle), _memory: Some(memory) }
    }

    /// The bundle, for work that ends with the request.
    pub fn bundle(&self) -> &Arc<Bundle> {
        &self.bundle
    }

    /// A bundle that counts for nothing.
    #[cfg(test)]
    pub(crate) fn for_test(bundle: Bundle) -> Self {
        Self { bundle: Arc::new(bundle), _memory: None }
    }
}

impl Deref for HeldBundle {
    type Target = Bundle;

    fn deref(&self) -> &Bundle {
        &self.bundle
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use bundles::bundle::BundleObject;
    use bundles::image::{ChainId, Digest, ImageId};
    use bundles::object::ContentHash;
    use bundles::path::RootPath;

    fn file(objects: u32) -> Arc<Vec<u8>> {
        let image = ImageId { chain_id: ChainId(Digest::sha256(b"x")), manifest: None, reference: String::new() };
        let path = RootPath::new("/some/file").unwrap();
        let object = |n: u32| BundleObject::file(ContentHash::sha1_of(&n.to_le_bytes()), 1, path.clone());
        let bundle = Bundle { objects: (0..objects).map(object).collect(), ..Bundle::new(image, "r.example") };
        Arc::new(bundle.to_bytes().unwrap())
    }

    #[tokio::test]
    async fn requests_wait_until_others_return_their_memory() {
        let memory = BundleMemory::new(8 << 20, 1 << 20);
        let held = memory.decode(&file(3_000)).await.unwrap();
        let file = file(3_000);
        let mut waits = Box::pin(memory.decode(&file));
        assert!(futures::poll!(&mut waits).is_pending());
        // It is decoded, and then waits with the file only.
        while memory.decoding.available_permits() == 0 {
            assert!(futures::poll!(&mut waits).is_pending(), "two of them do not fit");
            tokio::task::yield_now().await;
        }
        assert_eq!(memory.view(&file, |bundle| bundle.objects.len()).await.unwrap(), 3_000);
        assert!(futures::poll!(&mut waits).is_pending());
        drop(held);
        assert_eq!(waits.await.unwrap().objects.len(), 3_000);
        assert_eq!(memory.free.available_permits(), 1 << 10);
    }

    #[tokio::test]
    async fn bundles_that_can_never_fit_are_refused() {
        let memory = BundleMemory::new(8 << 20, 1 << 20);
        assert!(matches!(memory.decode(&file(5_000)).await, Err(MemoryError::TooLarge { .. })));
        assert!(matches!(memory.decode(&file(40_000)).await, Err(MemoryError::Format(_))));
        assert!(matches!(memory.decode(&Arc::new(b"none".to_vec())).await, Err(MemoryError::Format(_))));
        assert_eq!(memory.free.available_permits(), 1 << 10);
    }

    #[tokio::test]
    async fn sent_bundles_leave_the_memory_of_found_ones_alone() {
        let (found, sent) = BundleMemory::found_and_sent();
        let all = sent.free.clone().acquire_many_owned((SENT / KIB) as u32).await.unwrap();
        assert_eq!(found.decode(&file(10)).await.unwrap().objects.len(), 10);
        drop(all);
        assert_eq!(sent.decode(&file(10)).await.unwrap().objects.len(), 10);
    }
}
