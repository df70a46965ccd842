//! Arithmetic of tallies: what counts as an outcome, and how tallies add up.

use api::proto::Tally;

use crate::fetch::failure::Cause;

/// Adds `more` to `sum`. Times are not added.
pub fn add(sum: &mut Tally, more: &Tally) {
    for (sum, more) in [
        (&mut sum.total_objects, more.total_objects),
        (&mut sum.cached_objects, more.cached_objects),
        (&mut sum.fetched_objects, more.fetched_objects),
        (&mut sum.joined_objects, more.joined_objects),
        (&mut sum.skipped_objects, more.skipped_objects),
        (&mut sum.skipped_cache_full_objects, more.skipped_cache_full_objects),
        (&mut sum.failed_objects, more.failed_objects),
        (&mut sum.failed_transfer, more.failed_transfer),
        (&mut sum.failed_verification, more.failed_verification),
        (&mut sum.failed_write, more.failed_write),
        (&mut sum.failed_shutdown, more.failed_shutdown),
        (&mut sum.failed_cancelled, more.failed_cancelled),
        (&mut sum.fetched_stored_bytes, more.fetched_stored_bytes),
        (&mut sum.fetched_raw_bytes, more.fetched_raw_bytes),
    ] {
        *sum = sum.saturating_add(more);
    }
}

/// Number of objects that have an outcome.
pub fn finished(tally: &Tally) -> u64 {
    tally.cached_objects + tally.fetched_objects + tally.joined_objects + tally.failed_objects + tally.skipped_objects
}

/// Counts failed objects.
pub fn fail(tally: &mut Tally, cause: Cause, objects: u64) {
    tally.failed_objects += objects;
    *match cause {
        Cause::Transfer => &mut tally.failed_transfer,
        Cause::Verification => &mut tally.failed_verification,
        Cause::Write => &mut tally.failed_write,
    } += objects;
}
