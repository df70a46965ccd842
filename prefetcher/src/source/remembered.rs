//! Remembers for a while what a source said about an image: that it has no bundle, or one that cannot be used.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Maximum number of images that are remembered.
const MAX_IMAGES: usize = 4096;

/// What was said about images, by the names under which they were looked up.
#[derive(Debug)]
pub(super) struct Remembered<K, V> {
    known: Mutex<HashMap<K, (V, Instant)>>,
}

impl<K, V> Default for Remembered<K, V> {
    fn default() -> Self {
        Self { known: Mutex::default() }
    }
}

impl<K: Eq + Hash, V: Clone> Remembered<K, V> {
    /// What was said about the image, if that still holds.
    pub(super) fn get<Q: Eq + Hash + ?Sized>(&self, names: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.known.lock().get(names).filter(|(_, until)| Instant::now() < *until).map(|(value, _)| value.clone())
    }

    /// Remembers what was said about the image for `ttl`.
    pub(super) fn remember(&self, names: K, value: V, ttl: Duration) {
        let now = Instant::now();
        let mut known = self.known.lock();
        if known.len() >= MAX_IMAGES {
            known.retain(|_, (_, until)| now < *until);
        }
        if known.len() < MAX_IMAGES || known.contains_key(&names) {
            known.insert(names, (value, now + ttl));
        }
    }

    /// Forgets what was said about the images for which `which` returns true.
    pub(super) fn forget(&self, mut which: impl FnMut(&K) -> bool) {
        self.known.lock().retain(|names, _| !which(names));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_remembered_for_the_ttl_and_up_to_the_maximum() {
        let (hour, absent) = (Duration::from_secs(3600), Remembered::default());
        (0..=MAX_IMAGES).for_each(|number| absent.remember(number, (), hour));
        let has = |number: usize| absent.get(&number).is_some();
        assert!(has(0) && has(MAX_IMAGES - 1) && !has(MAX_IMAGES));
        absent.forget(|number| *number == 0);
        assert!(!has(0) && has(1));
        let forgetful = Remembered::default();
        // All of them have expired and are removed.
        (0..=MAX_IMAGES).for_each(|number| forgetful.remember(number, (), Duration::ZERO));
        assert!(forgetful.get(&0).is_none());
        assert_eq!(forgetful.known.lock().len(), 1);
    }
}
