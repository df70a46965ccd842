//! Abandons a delivery when servers refuse too many of its objects.
//!
//! Refused objects bring no bytes, so no budget ends a delivery of them. A bundle whose objects were garbage-collected, or that
//! somebody filled with random hashes, would cost several requests for each object, on every node, at every start.

use parking_lot::Mutex;

use crate::fetch::failure::{Cause, Failure};

/// A delivery is abandoned after this many refused objects in a row, and never before.
const MAX_IN_A_ROW: u64 = 32;
/// And after a twentieth of all objects, but not more than this many.
const MAX_TOTAL: u64 = 1000;

/// The refusals of one delivery.
#[derive(Debug)]
pub(super) struct Refusals {
    max_total: u64,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    in_a_row: u64,
    total: u64,
    absent: u64,
    abandoned: Option<Abandoned>,
}

/// Why a delivery was abandoned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Abandoned {
    /// The servers do not have the objects: the bundle is bad.
    ObjectsMissing,
    /// Servers or proxies refuse requests, or send other bytes. This says nothing about the bundle.
    Refused,
}

impl Refusals {
    /// No refusals yet, in a delivery of so many objects.
    pub(super) fn new(objects: usize) -> Self {
        Self { max_total: (objects as u64 / 20).clamp(MAX_IN_A_ROW, MAX_TOTAL), counts: Mutex::default() }
    }

    /// An object has arrived.
    pub(super) fn arrived(&self) {
        self.counts.lock().in_a_row = 0;
    }

    /// An object has failed. Returns why the delivery is abandoned, if this failure decides it.
    pub(super) fn failed(&self, failure: &Failure) -> Option<Abandoned> {
        // Failures that may pass have pauses between their attempts, and failures to write have a limit of their own.
        if failure.transient || failure.cause == Cause::Write {
            return None;
        }
        let mut counts = self.counts.lock();
        counts.in_a_row += 1;
        counts.total += 1;
        counts.absent += u64::from(failure.absent);
        if counts.abandoned.is_some() || (counts.in_a_row < MAX_IN_A_ROW && counts.total < self.max_total) {
            return None;
        }
        let are_missing = counts.absent * 2 > counts.total;
        counts.abandoned = Some(if are_missing { Abandoned::ObjectsMissing } else { Abandoned::Refused });
        counts.abandoned
    }

    /// Why the delivery was abandoned, if it was.
    pub(super) fn abandoned(&self) -> Option<Abandoned> {
        self.counts.lock().abandoned
    }

    /// Number of refused objects.
    pub(super) fn total(&self) -> u64 {
        self.counts.lock().total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Why a delivery of `objects` is abandoned, and after how many refusals, each with `between` objects that arrive before it.
    fn abandoned(objects: usize, between: usize, failure: &Failure) -> Option<(Abandoned, u64)> {
        let refusals = Refusals::new(objects);
        for _ in 0..objects / (between + 1) {
            (0..between).for_each(|_| refusals.arrived());
            if let Some(abandoned) = refusals.failed(failure) {
                assert_eq!(refusals.abandoned(), Some(abandoned));
                assert_eq!(refusals.failed(failure), None, "it is decided once");
                return Some((abandoned, refusals.total() - 1));
            }
        }
        None
    }

    #[test]
    fn few_refusals_in_a_row_or_a_share_of_all_are_enough() {
        let (absent, refused) = (Failure::absent("404"), Failure::refused("403"));
        for (objects, between, failure, expected) in [
            (31, 0, &absent, None),
            (32, 0, &absent, Some((Abandoned::ObjectsMissing, 32))),
            (1_000_000, 0, &absent, Some((Abandoned::ObjectsMissing, 32))),
            (1_000_000, 0, &refused, Some((Abandoned::Refused, 32))),
            (1_000_000, 0, &Failure::wrong("other bytes"), Some((Abandoned::Refused, 32))),
            (1_000_000, 1, &absent, Some((Abandoned::ObjectsMissing, 1000))),
            (2_000, 1, &absent, Some((Abandoned::ObjectsMissing, 100))),
            (2_000, 20, &absent, None),
            (100, 1, &absent, Some((Abandoned::ObjectsMissing, 32))),
            (100, 9, &absent, None),
            (1_000, 0, &Failure::transient("503"), None),
            (1_000, 0, &Failure::write("disk full"), None),
        ] {
            assert_eq!(abandoned(objects, between, failure), expected, "{objects} {between} {failure:?}");
        }
    }
}
