//! Counts, bytes and times of requests.
//!
//! Every object of a request gets exactly one [`Outcome`]. The log line, the metrics, the sums and the message of the API are all
//! derived from it here, so a new outcome is added to [`Outcome`] and to [`Tally::to_proto`], where the compiler asks for it.
//!
//! Invariant: when a request has ended, the total is the sum over all outcomes.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::AddAssign;
use std::time::Duration;

use api::proto;
use api::proto::RequestState;
use bundles::bundle::BundleObject;

use crate::fetch::failure::Cause;

/// What became of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was in the cache before.
    Cached,
    /// This request downloaded it, or had the CVMFS client fetch it.
    Fetched,
    /// Another request was already fetching it.
    Joined,
    /// It could not be fetched.
    Failed(FailureCause),
    /// It was not attempted, which is not a failure.
    Skipped(SkipCause),
}

/// Why an object failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureCause {
    /// Server, proxy or link.
    Transfer,
    /// The content did not match the hash.
    Verification,
    /// The cache could not be written.
    Write,
    /// The daemon was shutting down.
    Shutdown,
    /// The request was cancelled, or its deadline passed.
    Cancelled,
    /// Not attempted: the servers refused too many objects of the bundle, or the bundle is bad.
    Abandoned,
}

/// Why an object was skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SkipCause {
    /// This daemon does not serve its repository.
    Repository,
    /// The requests may not write more to its cache.
    CacheFull,
    /// The requests of an hour may not write more to its cache.
    HourlyLimit,
}

/// A number of objects and their sizes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Number of objects.
    pub objects: u64,
    /// Their bytes as stored on the server.
    pub stored_bytes: u64,
    /// Their bytes after decompression.
    pub raw_bytes: u64,
}

/// Counts, bytes and times of one request, or the sum over several.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// The objects that the request is for.
    pub total: Count,
    /// By the index of the outcome.
    outcomes: [Count; Outcome::ALL.len()],
    /// Bytes received over the network.
    pub transferred_bytes: u64,
    /// Number of packs that were downloaded.
    pub packs: u64,
    /// Number of critical objects that this daemon fetches.
    pub critical_objects: u64,
    /// Round trip of the servers at the last download.
    pub round_trip: Option<Duration>,
    /// Time until the first object arrived over the network.
    pub time_to_first_byte: Option<Duration>,
    /// Time until all critical objects were in the cache.
    pub time_to_critical: Option<Duration>,
    /// Time until the request ended.
    pub elapsed: Option<Duration>,
}

/// What the API shows of a running request beside its counts.
#[derive(Debug, Clone, Copy, Default)]
pub struct Snapshot {
    /// Time since the start of the request, or until its end.
    pub elapsed: Duration,
    /// Number of critical objects that are not finished.
    pub critical_pending: u64,
    /// How long a container's start should still wait.
    pub recommended_delay: Option<Duration>,
}

/// The sum over all requests since the start of the daemon, for metrics.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    /// Number of requests that have ended, by state.
    pub ended: BTreeMap<RequestState, u64>,
    /// Sum of the tallies of all requests, running ones included.
    pub tally: Tally,
    /// Number of running requests.
    pub running: u64,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 12] = [
        Self::Cached,
        Self::Fetched,
        Self::Joined,
        Self::Failed(FailureCause::Transfer),
        Self::Failed(FailureCause::Verification),
        Self::Failed(FailureCause::Write),
        Self::Failed(FailureCause::Shutdown),
        Self::Failed(FailureCause::Cancelled),
        Self::Failed(FailureCause::Abandoned),
        Self::Skipped(SkipCause::Repository),
        Self::Skipped(SkipCause::CacheFull),
        Self::Skipped(SkipCause::HourlyLimit),
    ];

    /// The outcome as it appears in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cached => "cached",
            Self::Fetched => "fetched",
            Self::Joined => "joined",
            Self::Failed(_) => "failed",
            Self::Skipped(_) => "skipped",
        }
    }

    /// The cause as it appears in metrics and logs.
    pub fn cause(self) -> Option<&'static str> {
        match self {
            Self::Cached | Self::Fetched | Self::Joined => None,
            Self::Failed(FailureCause::Transfer) => Some("transfer"),
            Self::Failed(FailureCause::Verification) => Some("verification"),
            Self::Failed(FailureCause::Write) => Some("write"),
            Self::Failed(FailureCause::Shutdown) => Some("shutdown"),
            Self::Failed(FailureCause::Cancelled) => Some("cancelled"),
            Self::Failed(FailureCause::Abandoned) => Some("abandoned"),
            Self::Skipped(SkipCause::Repository) => Some("repository"),
            Self::Skipped(SkipCause::CacheFull) => Some("cache_full"),
            Self::Skipped(SkipCause::HourlyLimit) => Some("hourly_limit"),
        }
    }

    /// Whether the object failed, for whatever cause.
    pub fn is_failure(self) -> bool {
        matches!(self, Self::Failed(_))
    }

    /// Whether the object was skipped, for whatever cause.
    pub fn is_skip(self) -> bool {
        matches!(self, Self::Skipped(_))
    }

    fn index(self) -> usize {
        // Every outcome is in the list, which a test checks.
        Self::ALL.iter().position(|outcome| *outcome == self).unwrap_or_default()
    }
}

impl From<Cause> for FailureCause {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::Transfer => Self::Transfer,
            Cause::Verification => Self::Verification,
            Cause::Write => Self::Write,
        }
    }
}

impl Count {
    /// One object whose sizes are not counted.
    pub const ONE: Self = Self { objects: 1, stored_bytes: 0, raw_bytes: 0 };

    /// One object with its sizes.
    pub fn object(object: &BundleObject) -> Self {
        Self { objects: 1, stored_bytes: object.stored_size, raw_bytes: object.raw_size }
    }

    /// Several objects whose sizes are not counted.
    pub fn objects(objects: u64) -> Self {
        Self { objects, ..Self::default() }
    }
}

/// Saturates, because a bundle may claim any size.
impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.objects = self.objects.saturating_add(other.objects);
        self.stored_bytes = self.stored_bytes.saturating_add(other.stored_bytes);
        self.raw_bytes = self.raw_bytes.saturating_add(other.raw_bytes);
    }
}

impl std::iter::Sum for Count {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |mut sum, count| {
            sum += count;
            sum
        })
    }
}

impl Tally {
    /// The tally of a bundle that replaces this one's: without outcomes, but with what was transferred already.
    pub fn restarted(&self, total: Count, critical_objects: u64) -> Self {
        Self {
            total,
            critical_objects,
            transferred_bytes: self.transferred_bytes,
            packs: self.packs,
            time_to_first_byte: self.time_to_first_byte,
            ..Self::default()
        }
    }

    /// Counts objects with their outcome.
    pub fn record(&mut self, outcome: Outcome, count: Count) {
        self.outcomes[outcome.index()] += count;
    }

    /// Returns the count of one outcome.
    pub fn count(&self, outcome: Outcome) -> Count {
        self.outcomes[outcome.index()]
    }

    /// Returns every outcome with its count.
    pub fn outcomes(&self) -> impl Iterator<Item = (Outcome, Count)> {
        Outcome::ALL.into_iter().zip(self.outcomes)
    }

    /// Returns the number of objects that failed.
    pub fn failed(&self) -> u64 {
        self.outcomes().filter(|(outcome, _)| outcome.is_failure()).map(|(_, count)| count.objects).sum()
    }

    /// Returns the number of objects without an outcome.
    pub fn unfinished(&self) -> u64 {
        self.total.objects.saturating_sub(self.outcomes.into_iter().sum::<Count>().objects)
    }

    /// Counts all objects without an outcome as failed.
    pub fn fail_unfinished(&mut self, cause: FailureCause) {
        self.record(Outcome::Failed(cause), Count::objects(self.unfinished()));
    }

    /// Adds the counts of another request. Times and transfers stay.
    pub fn add(&mut self, other: &Self) {
        self.total += other.total;
        for (sum, count) in self.outcomes.iter_mut().zip(other.outcomes) {
            *sum += count;
        }
    }

    /// The tally as a message of the API.
    pub fn to_proto(&self, now: Snapshot) -> proto::Tally {
        let mut tally = proto::Tally {
            total_objects: self.total.objects,
            total_stored_bytes: self.total.stored_bytes,
            total_raw_bytes: self.total.raw_bytes,
            cached_raw_bytes: self.count(Outcome::Cached).raw_bytes,
            fetched_stored_bytes: self.count(Outcome::Fetched).stored_bytes,
            fetched_raw_bytes: self.count(Outcome::Fetched).raw_bytes,
            transferred_bytes: self.transferred_bytes,
            packs: self.packs,
            critical_objects: self.critical_objects,
            critical_pending_objects: now.critical_pending,
            round_trip_us: self.round_trip.map_or(0, microseconds),
            time_to_first_byte_us: self.time_to_first_byte.map_or(0, microseconds),
            time_to_critical_us: self.time_to_critical.map_or(0, microseconds),
            elapsed_us: microseconds(now.elapsed),
            recommended_delay_us: now.recommended_delay.map(microseconds),
            ..proto::Tally::default()
        };
        for (outcome, Count { objects, .. }) in self.outcomes() {
            *match outcome {
                Outcome::Cached => &mut tally.cached_objects,
                Outcome::Fetched => &mut tally.fetched_objects,
                Outcome::Joined => &mut tally.joined_objects,
                Outcome::Failed(_) => &mut tally.failed_objects,
                Outcome::Skipped(_) => &mut tally.skipped_objects,
            } += objects;
            match outcome {
                Outcome::Cached | Outcome::Fetched | Outcome::Joined => {}
                Outcome::Failed(FailureCause::Transfer) => tally.failed_transfer = objects,
                Outcome::Failed(FailureCause::Verification) => tally.failed_verification = objects,
                Outcome::Failed(FailureCause::Write) => tally.failed_write = objects,
                Outcome::Failed(FailureCause::Shutdown) => tally.failed_shutdown = objects,
                Outcome::Failed(FailureCause::Cancelled) => tally.failed_cancelled = objects,
                Outcome::Failed(FailureCause::Abandoned) => tally.failed_abandoned = objects,
                // The difference to all that were skipped.
                Outcome::Skipped(SkipCause::Repository | SkipCause::HourlyLimit) => {}
                Outcome::Skipped(SkipCause::CacheFull) => tally.skipped_cache_full_objects = objects,
            }
        }
        tally
    }
}

/// The outcomes that occurred, for the log: `fetched=590 failed_transfer=10`.
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (outcome, count) in self.outcomes().filter(|(_, count)| count.objects > 0) {
            write!(f, "{separator}{}", outcome.name())?;
            if let Some(cause) = outcome.cause() {
                write!(f, "_{cause}")?;
            }
            write!(f, "={}", count.objects)?;
            separator = " ";
        }
        Ok(())
    }
}

fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tally in which every outcome has another count.
    fn tally() -> Tally {
        let mut tally = Tally { total: Count::objects(83), ..Tally::default() };
        for (number, outcome) in (1..).zip(Outcome::ALL) {
            tally.record(outcome, Count { objects: number, stored_bytes: 10 * number, raw_bytes: 100 * number });
        }
        tally
    }

    #[test]
    fn every_outcome_has_its_own_count() {
        for (number, outcome) in (1..).zip(Outcome::ALL) {
            assert_eq!(tally().count(outcome).objects, number, "{outcome:?}");
        }
    }

    #[test]
    fn the_message_has_every_outcome_and_its_sum_is_the_total() {
        let mut tally = tally();
        assert_eq!(tally.unfinished(), 5);
        tally.fail_unfinished(FailureCause::Cancelled);
        let message = tally.to_proto(Snapshot::default());
        assert_eq!((message.cached_objects, message.fetched_objects, message.joined_objects), (1, 2, 3));
        let failures = [
            message.failed_transfer,
            message.failed_verification,
            message.failed_write,
            message.failed_shutdown,
            message.failed_cancelled,
            message.failed_abandoned,
        ];
        assert_eq!((failures, message.failed_objects), ([4, 5, 6, 7, 13, 9], 44));
        assert_eq!((message.skipped_objects, message.skipped_cache_full_objects), (33, 11));
        let finished = message.cached_objects
            + message.fetched_objects
            + message.joined_objects
            + message.failed_objects
            + message.skipped_objects;
        assert_eq!(finished, message.total_objects);
        assert_eq!((message.cached_raw_bytes, message.fetched_stored_bytes, message.fetched_raw_bytes), (100, 20, 200));
    }

    #[test]
    fn sums_have_all_counts_and_saturate() {
        let mut sum = tally();
        sum.add(&tally());
        assert_eq!((sum.total.objects, sum.count(Outcome::Skipped(SkipCause::CacheFull)).objects), (166, 22));
        let huge = Count { objects: 1, stored_bytes: u64::MAX, raw_bytes: 1 };
        assert_eq!([huge, huge].into_iter().sum::<Count>().stored_bytes, u64::MAX);
    }

    #[test]
    fn the_log_line_has_the_outcomes_that_occurred() {
        let mut tally = Tally::default();
        tally.record(Outcome::Fetched, Count::objects(2));
        tally.record(Outcome::Failed(FailureCause::Transfer), Count::ONE);
        assert_eq!(tally.to_string(), "fetched=2 failed_transfer=1");
    }
}
