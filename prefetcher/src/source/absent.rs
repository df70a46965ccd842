//! Remembers for a while which images have no bundle in any source.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bundles::image::{ChainId, Digest};
use parking_lot::{Mutex, MutexGuard};

/// Maximum number of images that are remembered.
const MAX_IMAGES: usize = 4096;

/// Names by which an image was looked up.
type Names = (Option<ChainId>, Option<Digest>);

/// Images without a bundle.
#[derive(Debug)]
pub(super) struct Absent {
    ttl: Duration,
    since: Mutex<HashMap<Names, Instant>>,
}

impl Absent {
    /// Remembers each image for `ttl`.
    pub(super) fn new(ttl: Duration) -> Self {
        Self { ttl, since: Mutex::default() }
    }

    /// Whether the image had no bundle within the TTL.
    pub(super) fn has(&self, names: &Names) -> bool {
        self.lock().get(names).is_some_and(|since| since.elapsed() < self.ttl)
    }

    /// Remembers that the image has no bundle now.
    pub(super) fn remember(&self, names: Names) {
        let mut absent = self.lock();
        if absent.len() >= MAX_IMAGES {
            absent.retain(|_, since| since.elapsed() < self.ttl);
        }
        if absent.len() < MAX_IMAGES {
            absent.insert(names, Instant::now());
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Names, Instant>> {
        self.since.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(number: usize) -> Names {
        (Some(ChainId(Digest::sha256(&number.to_le_bytes()))), None)
    }

    #[test]
    fn images_are_remembered_for_the_ttl_and_up_to_the_maximum() {
        let absent = Absent::new(Duration::from_secs(3600));
        (0..=MAX_IMAGES).for_each(|number| absent.remember(names(number)));
        assert!(absent.has(&names(0)) && absent.has(&names(MAX_IMAGES - 1)) && !absent.has(&names(MAX_IMAGES)));
        let forgetful = Absent::new(Duration::ZERO);
        // All of them have expired and are removed.
        (0..=MAX_IMAGES).for_each(|number| forgetful.remember(names(number)));
        assert!(!forgetful.has(&names(0)));
        assert_eq!(forgetful.lock().len(), 1);
    }
}
