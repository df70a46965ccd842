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
    /// Waits while that is expected to make the start sooner.
    Adaptive,
}

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// All that the start needs is in the cache.
    Arrived,
    /// It is expected to take longer than fetching the rest on use.
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

/// What is known of a running prefetch, for [`Policy::Adaptive`].
#[derive(Debug, Clone, Copy)]
pub struct Prospect {
    /// Objects that the start needs.
    pub critical: u64,
    /// Those that are still to come.
    pub awaited: u64,
    /// Since the prefetch began.
    pub elapsed: Duration,
    /// Of one request to the server.
    pub round_trip: Duration,
}

impl Prospect {
    /// Whether the rest of the critical objects is expected sooner than a container would have fetched it by itself, one
    /// round trip an object.
    pub fn is_worth_waiting(&self) -> bool {
        let arrived = self.critical.saturating_sub(self.awaited);
        let gain = self.round_trip.saturating_mul(u32::try_from(self.awaited).unwrap_or(u32::MAX));
        // Before anything has come: at least the round trip that is under way, and as long again as it has taken already.
        let wait = match arrived {
            0 => self.elapsed.max(self.round_trip),
            _ => self.elapsed.mul_f64(self.awaited as f64 / arrived as f64),
        };
        gain > wait
    }
}

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
    let round_trip = match account.round_trip_us {
        0 => ROUND_TRIP,
        known => Duration::from_micros(known),
    };
    let (critical, awaited) = (account.critical_objects, account.critical_awaited_objects);
    let prospect = Prospect { critical, awaited, elapsed, round_trip };
    (!prospect.is_worth_waiting()).then_some(End::NotWorthIt)
}

#[cfg(test)]
mod tests {
    use prefetcher::api::Account;

    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn waiting_is_worth_it_while_the_rest_comes_sooner_than_one_by_one() {
        for (critical, awaited, elapsed, round_trip, worth) in [
            // Nothing has come yet: as long as it took so far.
            (100, 100, ms(0), ms(20), true),
            (100, 100, ms(1999), ms(20), true),
            (100, 100, ms(2001), ms(20), false),
            // One object is had as soon without waiting.
            (1, 1, ms(0), ms(20), false),
            (0, 0, ms(5), ms(20), false),
            // Half has come in 100 ms: the other half takes as long, and 50 round trips.
            (100, 50, ms(100), ms(20), true),
            // A thin line: 10 s for half of it, which is more than 50 round trips.
            (100, 50, ms(10_000), ms(20), false),
            // A near server: 50 requests take less than the wait.
            (100, 50, ms(100), ms(1), false),
        ] {
            let prospect = Prospect { critical, awaited, elapsed, round_trip };
            assert_eq!(prospect.is_worth_waiting(), worth, "{prospect:?}");
        }
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
            (status(Running, "store", 50, 25, ms(10)), None),
            (status(Running, "store", 50, 25, ms(10_000)), Some(End::NotWorthIt)),
        ] {
            assert_eq!(judge(&status), end, "{status:?}");
        }
        let missed = RequestStatus {
            account: Some(Account { critical_objects: 3, ..Account::default() }),
            ..status(Running, "store", 3, 0, ms(1))
        };
        assert_eq!(judge(&missed), Some(End::Nothing), "one of them will not come");
    }
}
