//! Which images had no bundle anywhere, for a while.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bundles::image::{ChainId, Digest};

/// Most images that are remembered.
const MOST: usize = 4096;

/// What an image was looked for by.
type Names = (Option<ChainId>, Option<Digest>);

/// The images that are remembered.
#[derive(Debug)]
pub(super) struct Absent {
    for_how_long: Duration,
    since: Mutex<HashMap<Names, Instant>>,
}

impl Absent {
    /// Remembers each for so long.
    pub(super) fn new(for_how_long: Duration) -> Self {
        Self { for_how_long, since: Mutex::default() }
    }

    /// Whether there was no bundle of the image a while ago.
    pub(super) fn has(&self, names: &Names) -> bool {
        self.lock().get(names).is_some_and(|since| since.elapsed() < self.for_how_long)
    }

    /// There is none now.
    pub(super) fn remember(&self, names: Names) {
        let mut absent = self.lock();
        if absent.len() >= MOST {
            absent.retain(|_, since| since.elapsed() < self.for_how_long);
        }
        if absent.len() < MOST {
            absent.insert(names, Instant::now());
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Names, Instant>> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(number: usize) -> Names {
        (Some(ChainId(Digest::sha256(&number.to_le_bytes()))), None)
    }

    #[test]
    fn what_is_absent_is_so_for_a_while_and_memory_is_bounded() {
        let absent = Absent::new(Duration::from_secs(3600));
        (0..=MOST).for_each(|number| absent.remember(names(number)));
        assert!(absent.has(&names(0)) && absent.has(&names(MOST - 1)) && !absent.has(&names(MOST)));
        let forgetful = Absent::new(Duration::ZERO);
        // All of them are out of date, and make room.
        (0..=MOST).for_each(|number| forgetful.remember(names(number)));
        assert!(!forgetful.has(&names(0)));
        assert_eq!(forgetful.lock().len(), 1);
    }
}
