//! Whether the start of a container waits for its prefetch, and how long.
//!
//! Nothing ever waits unless the configuration says so, nor longer than it says, whatever the daemon does.

use std::time::Duration;

use prefetcher::api::{RequestState, RequestStatus};
use serde::{Deserialize, Serialize};

/// What a container's Prepare does after its image was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// Goes on at once.
    #[default]
    None,
    /// Waits until all that the start needs is in the cache.
    Critical,
    /// Waits until the container will meet each object in the cache when it wants it.
    Adaptive,
}

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// All that the start needs is in the cache.
    Arrived,
    /// What is still to come is expected to be there before it is wanted.
    Ahead,
    /// Nothing came in a time in which the container would have fetched what it needs by itself.
    NotWorthIt,
    /// There is no bundle, or not all of it will come.
    Nothing,
    /// The bound was reached.
    Bound,
    /// The daemon could not be asked.
    Failed,
}

/// Until a bundle is found nothing can be predicted. It is at hand in most cases; one that is not is not waited for.
const LOOK_UP: Duration = Duration::from_millis(200);
/// Until something was measured: a server in another country.
const ROUND_TRIP: Duration = Duration::from_millis(20);

/// What [`Policy::Critical`] makes of a request's status: the end of the wait, or none yet.
pub fn settled(status: &RequestStatus) -> Option<End> {
    let account = status.account.unwrap_or_default();
    let is_found = !status.bundle_source.is_empty();
    if is_found && account.critical_awaited_objects == 0 {
        // Where one of them failed, that time never comes.
        return Some(if account.time_to_critical_us > 0 { End::Arrived } else { End::Nothing });
    }
    (status.state() != RequestState::Running).then_some(End::Nothing)
}

/// What [`Policy::Adaptive`] makes of a request's status: the end of the wait, or none yet.
pub fn judge(status: &RequestStatus) -> Option<End> {
    let account = status.account.unwrap_or_default();
    let elapsed = Duration::from_micros(account.elapsed_us);
    let is_found = !status.bundle_source.is_empty();
    if let Some(end) = settled(status) {
        return Some(end);
    }
    if !is_found {
        return (elapsed > LOOK_UP).then_some(End::NotWorthIt);
    }
    if let Some(head_start) = account.head_start_us {
        return (head_start == 0).then_some(End::Ahead);
    }
    // Nothing has come yet.
    let round_trip = match account.round_trip_us {
        0 => ROUND_TRIP,
        known => Duration::from_micros(known),
    };
    let awaited = u32::try_from(account.critical_awaited_objects).unwrap_or(u32::MAX);
    (elapsed > round_trip.saturating_mul(awaited)).then_some(End::NotWorthIt)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use prefetcher::api::Account;

    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_status_is_judged_by_what_is_known_of_it() {
        let status =
            |state: RequestState, source: &str, critical: u64, awaited: u64, elapsed: Duration| RequestStatus {
                state: state.into(),
                bundle_source: source.to_owned(),
                account: Some(Account {
                    critical_objects: critical,
                    critical_awaited_objects: awaited,
                    time_to_critical_us: u64::from(awaited == 0),
                    elapsed_us: elapsed.as_micros() as u64,
                    ..Account::default()
                }),
                ..RequestStatus::default()
            };
        use RequestState::{Done, Failed, NoBundle, Running};
        for (status, end) in [
            (status(Running, "", 0, 0, ms(10)), None),
            (status(Running, "", 0, 0, ms(300)), Some(End::NotWorthIt)),
            (status(NoBundle, "", 0, 0, ms(10)), Some(End::Nothing)),
            (status(Running, "store", 50, 0, ms(10)), Some(End::Arrived)),
            (status(Running, "store", 0, 0, ms(10)), Some(End::Arrived)),
            (status(Done, "store", 50, 0, ms(10)), Some(End::Arrived)),
            (status(Failed, "store", 50, 2, ms(10)), Some(End::Nothing)),
            // Nothing has come; one by one, at 20 ms each, the container would have them in a second.
            (status(Running, "store", 50, 50, ms(990)), None),
            (status(Running, "store", 50, 50, ms(1010)), Some(End::NotWorthIt)),
        ] {
            assert_eq!(judge(&status), end, "{status:?}");
        }
        for (head_start_us, end) in [(Some(1), None), (Some(u64::MAX), None), (Some(0), Some(End::Ahead))] {
            let mut status = status(Running, "store", 50, 25, ms(60_000));
            status.account.as_mut().unwrap().head_start_us = head_start_us;
            assert_eq!(judge(&status), end, "{status:?}");
        }
        let missed = RequestStatus {
            account: Some(Account { critical_objects: 3, ..Account::default() }),
            ..status(Running, "store", 3, 0, ms(1))
        };
        assert_eq!(judge(&missed), Some(End::Nothing), "one of them will not come");
    }
}
