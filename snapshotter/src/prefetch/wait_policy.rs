//! How long the start of a container waits for its prefetch.
//!
//! Nothing waits unless the configuration says so, and never longer than `max_wait`, whatever the daemon does.

use std::time::Duration;

use api::proto::{RequestState, RequestStatus};

use crate::config::WaitPolicy;
use crate::metrics::WaitOutcome;

/// Until a bundle is found nothing can be predicted. Most bundles are found at once; longer lookups are not waited for.
const BUNDLE_LOOKUP: Duration = Duration::from_millis(200);
/// Assumed round trip until one was measured: a server in another country.
const ROUND_TRIP: Duration = Duration::from_millis(20);

/// The outcome of the wait by a request's status; `None` to go on waiting.
pub fn outcome(policy: WaitPolicy, status: &RequestStatus) -> Option<WaitOutcome> {
    match policy {
        WaitPolicy::None | WaitPolicy::Critical => critical(status),
        WaitPolicy::Adaptive => critical(status).or_else(|| adaptive(status)),
    }
}

/// Ends when the critical objects are in the cache or will not come.
fn critical(status: &RequestStatus) -> Option<WaitOutcome> {
    let tally = status.tally.unwrap_or_default();
    let bundle_found = !status.bundle_source.is_empty();
    if bundle_found && tally.critical_pending_objects == 0 {
        // If one of them failed, the daemon never sets that time.
        let all_cached = tally.time_to_critical_us > 0;
        return Some(if all_cached { WaitOutcome::Ready } else { WaitOutcome::Unavailable });
    }
    (status.state() != RequestState::Running).then_some(WaitOutcome::Unavailable)
}

/// Ends when the container would not overtake the daemon any more, or when the daemon makes no progress.
fn adaptive(status: &RequestStatus) -> Option<WaitOutcome> {
    let tally = status.tally.unwrap_or_default();
    let elapsed = Duration::from_micros(tally.elapsed_us);
    if status.bundle_source.is_empty() {
        return (elapsed > BUNDLE_LOOKUP).then_some(WaitOutcome::Stalled);
    }
    if let Some(recommended_delay) = tally.recommended_delay_us {
        return (recommended_delay == 0).then_some(WaitOutcome::InTime);
    }
    // No object was fetched yet. In a round trip for each object the container could fetch them itself.
    let round_trip = match tally.round_trip_us {
        0 => ROUND_TRIP,
        measured => Duration::from_micros(measured),
    };
    let pending = u32::try_from(tally.critical_pending_objects).unwrap_or(u32::MAX);
    (elapsed > round_trip.saturating_mul(pending)).then_some(WaitOutcome::Stalled)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use api::proto::Tally;

    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn status(state: RequestState, source: &str, critical: u64, pending: u64, elapsed: Duration) -> RequestStatus {
        RequestStatus {
            state: state.into(),
            bundle_source: source.to_owned(),
            tally: Some(Tally {
                critical_objects: critical,
                critical_pending_objects: pending,
                time_to_critical_us: u64::from(pending == 0),
                elapsed_us: elapsed.as_micros() as u64,
                ..Tally::default()
            }),
            ..RequestStatus::default()
        }
    }

    #[test]
    fn the_adaptive_policy_waits_while_the_daemon_is_ahead() {
        use RequestState::{Done, Failed, NoBundle, Running};
        for (status, expected) in [
            (status(Running, "", 0, 0, ms(10)), None),
            (status(Running, "", 0, 0, ms(300)), Some(WaitOutcome::Stalled)),
            (status(NoBundle, "", 0, 0, ms(10)), Some(WaitOutcome::Unavailable)),
            (status(Running, "store", 50, 0, ms(10)), Some(WaitOutcome::Ready)),
            (status(Running, "store", 0, 0, ms(10)), Some(WaitOutcome::Ready)),
            (status(Done, "store", 50, 0, ms(10)), Some(WaitOutcome::Ready)),
            (status(Failed, "store", 50, 2, ms(10)), Some(WaitOutcome::Unavailable)),
            // Nothing was fetched; one by one, at 20 ms each, the container would fetch 50 objects in a second.
            (status(Running, "store", 50, 50, ms(990)), None),
            (status(Running, "store", 50, 50, ms(1010)), Some(WaitOutcome::Stalled)),
        ] {
            assert_eq!(outcome(WaitPolicy::Adaptive, &status), expected, "{status:?}");
        }
        for (delay_us, expected) in [(Some(1), None), (Some(u64::MAX), None), (Some(0), Some(WaitOutcome::InTime))] {
            let mut status = status(Running, "store", 50, 25, ms(60_000));
            status.tally.as_mut().unwrap().recommended_delay_us = delay_us;
            assert_eq!(outcome(WaitPolicy::Adaptive, &status), expected, "{status:?}");
        }
    }

    #[test]
    fn the_critical_policy_waits_for_every_critical_object() {
        use RequestState::{Failed, Running};
        for (status, expected) in [
            (status(Running, "", 0, 0, ms(60_000)), None),
            (status(Running, "store", 50, 1, ms(60_000)), None),
            (status(Running, "store", 50, 0, ms(10)), Some(WaitOutcome::Ready)),
            (status(Failed, "store", 50, 2, ms(10)), Some(WaitOutcome::Unavailable)),
        ] {
            assert_eq!(outcome(WaitPolicy::Critical, &status), expected, "{status:?}");
        }
    }

    #[test]
    fn a_critical_object_that_failed_ends_the_wait() {
        let status = RequestStatus {
            tally: Some(Tally { critical_objects: 3, ..Tally::default() }),
            ..status(RequestState::Running, "store", 3, 0, ms(1))
        };
        for policy in [WaitPolicy::Critical, WaitPolicy::Adaptive] {
            assert_eq!(outcome(policy, &status), Some(WaitOutcome::Unavailable), "{policy:?}");
        }
    }
}
