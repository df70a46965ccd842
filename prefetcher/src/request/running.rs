//! One request: its progress, and the signals that end it early.

use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::time::Duration;

use api::proto::{Priority, RequestState, RequestStatus};
use bundles::bundle::{Bundle, ObjectIndex};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::critical::Critical;
use super::image_query::ImageQuery;
use super::spec::PrefetchSpec;
use super::tally::{Count, FailureCause, Outcome, SkipCause, Snapshot, Tally};
use crate::fetch::limits::per_request::{FetchPolicy, RequestLimit};

/// One request. Shared by the task that runs it and the calls that query it.
#[derive(Debug)]
pub struct Request {
    /// Number of the request, which clients use to refer to it.
    pub id: u64,
    /// The image whose bundle is requested.
    pub query: ImageQuery,
    /// Name that the first client gave to its own work.
    pub correlation_id: String,
    /// Whether the client sent the bundle.
    pub brings_bundle: bool,
    limit: RequestLimit,
    started: Instant,
    priority: AtomicI32,
    joined_calls: AtomicU64,
    deadline: watch::Sender<Option<Instant>>,
    cancelled: CancellationToken,
    progress: watch::Sender<Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    state: RequestState,
    error: String,
    bundle_source: String,
    tally: Tally,
    /// Tally of a bundle that was found to be outdated.
    replaced: Tally,
    lookup: Option<Duration>,
    critical: Critical,
    waiting_for_settings: bool,
}

/// Whether the start of a container waits for an object that is in the cache now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// Not a critical object, or not in the cache.
    Other,
    /// A critical object.
    Critical,
    /// The last critical object, and all others are in the cache.
    LastCritical,
}

impl Request {
    pub(super) fn new(id: u64, spec: &PrefetchSpec) -> Self {
        let started = Instant::now();
        Self {
            id,
            query: spec.query.clone(),
            correlation_id: spec.correlation_id.clone(),
            brings_bundle: spec.bundle.is_some(),
            limit: RequestLimit::new(spec.bytes_per_second),
            started,
            priority: AtomicI32::new(spec.priority.into()),
            joined_calls: AtomicU64::new(0),
            deadline: watch::Sender::new(spec.deadline.map(|time| started + time)),
            cancelled: CancellationToken::new(),
            progress: watch::Sender::new(Progress { state: RequestState::Running, ..Progress::default() }),
        }
    }

    /// Lets another call join the request, which gets the higher priority, the later deadline and the wider limit of both.
    pub(super) fn join(&self, spec: &PrefetchSpec) {
        self.joined_calls.fetch_add(1, Ordering::Relaxed);
        self.priority.fetch_max(spec.priority.into(), Ordering::Relaxed);
        self.limit.widen(spec.bytes_per_second);
        let other = spec.deadline.map(|time| Instant::now() + time);
        self.deadline.send_modify(|own| *own = own.zip(other).map(|(own, other)| own.max(other)));
    }

    /// The current priority.
    pub fn priority(&self) -> Priority {
        Priority::try_from(self.priority.load(Ordering::Relaxed)).unwrap_or(Priority::Normal)
    }

    /// Priority and bandwidth limit of its downloads, as they are now.
    pub fn fetch_policy(&self) -> FetchPolicy<'_> {
        let rank = match self.priority() {
            Priority::High => 0,
            Priority::Normal | Priority::Unspecified => 1,
            Priority::Low => 2,
        };
        FetchPolicy { rank, limit: &self.limit }
    }

    /// Changes the priority, unless the request has ended.
    pub fn set_priority(&self, priority: Priority) {
        if !self.has_ended() {
            self.priority.store(priority.into(), Ordering::Relaxed);
        }
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled.is_cancelled()
    }

    /// Ends the request as soon as possible.
    pub fn cancel(&self) {
        self.cancelled.cancel();
    }

    /// Waits until the request is cancelled or its deadline passes; returns its last state then.
    pub async fn given_up(&self) -> RequestState {
        let mut deadline = self.deadline.subscribe();
        loop {
            let at = *deadline.borrow_and_update();
            let passed = async {
                match at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.cancelled.cancelled() => return RequestState::Cancelled,
                () = passed => return RequestState::Deadline,
                // A call with a later deadline has joined.
                _ = deadline.changed() => {}
            }
        }
    }

    /// Returns the current status.
    pub fn status(&self) -> RequestStatus {
        let elapsed = self.elapsed();
        let (state, error, bundle_source, tally, lookup, waiting_for_settings) = {
            // Not a clone: there can be many critical objects.
            let p = self.progress.borrow();
            let is_running = p.state == RequestState::Running;
            let now = Snapshot {
                elapsed: p.tally.elapsed.unwrap_or(elapsed),
                critical_pending: p.critical.pending(),
                recommended_delay: is_running.then(|| p.critical.recommended_delay(elapsed)).flatten(),
            };
            let tally = p.tally.to_proto(now);
            (p.state, p.error.clone(), p.bundle_source.clone(), tally, p.lookup, p.waiting_for_settings)
        };
        let deadline = self.deadline.borrow().map_or(Duration::ZERO, |at| at - self.started);
        RequestStatus {
            request_id: self.id,
            image: Some(self.query.to_api()),
            state: state.into(),
            error,
            bundle_source,
            tally: Some(tally),
            lookup_us: lookup.map_or(0, |time| time.as_micros() as u64),
            priority: self.priority().into(),
            deadline_ms: deadline.as_millis() as u64,
            correlation_id: self.correlation_id.clone(),
            joined_calls: self.joined_calls.load(Ordering::Relaxed),
            bytes_per_second: self.limit.bytes_per_second().unwrap_or(0),
            waiting_for_settings,
        }
    }

    /// Waits for the end of the request; returns its last status.
    pub async fn ended(&self) -> RequestStatus {
        // The sender lives in `self`, so this does not fail.
        let _ = self.progress.subscribe().wait_for(|p| p.state != RequestState::Running).await;
        self.status()
    }

    /// Waits at most `timeout` until all critical objects are in the cache, or one of them cannot be; returns whether all are.
    pub async fn critical(&self, timeout: Duration) -> bool {
        let is_settled = |p: &Progress| p.state != RequestState::Running || p.critical.is_settled();
        let mut progress = self.progress.subscribe();
        // The state after the timeout counts, whether or not it has passed.
        let _ = tokio::time::timeout(timeout, progress.wait_for(is_settled)).await;
        self.progress.borrow().critical.is_ready()
    }

    /// Records that the bundle was found, and that the objects of `plan` are requested from it. If it replaces another bundle, the
    /// tally starts again, apart from what was transferred already.
    pub fn found(&self, source: &str, bundle: &Bundle, plan: &[ObjectIndex]) {
        let now = self.elapsed();
        let critical = Critical::new(bundle, plan);
        let total: Count = plan.iter().map(|index| Count::object(bundle.object(*index))).sum();
        self.progress.send_modify(|p| {
            p.bundle_source = source.to_owned();
            p.error.clear();
            let tally = p.tally.restarted(total, critical.pending());
            p.replaced = std::mem::replace(&mut p.tally, tally);
            p.lookup = Some(now);
            p.critical = critical;
            p.note_critical_time(now);
        });
    }

    /// Records the outcome of an object.
    pub fn record(&self, index: ObjectIndex, outcome: Outcome, count: Count) -> Arrival {
        let now = self.elapsed();
        let mut arrival = Arrival::Other;
        self.progress.send_modify(|p| {
            arrival = p.record(index, outcome, count);
            p.note_critical_time(now);
        });
        arrival
    }

    /// Records the same outcome of several objects that are not in the cache.
    pub fn record_all(&self, indices: &[ObjectIndex], outcome: Outcome) {
        let now = self.elapsed();
        self.progress.send_modify(|p| {
            indices.iter().for_each(|index| _ = p.record(*index, outcome, Count::ONE));
            p.note_critical_time(now);
        });
    }

    /// Records that an object has arrived over the network, from servers with this round trip.
    pub fn record_arrival(&self, round_trip: Option<Duration>) {
        let now = self.elapsed();
        self.progress.send_modify(|p| {
            p.tally.time_to_first_byte.get_or_insert(now);
            p.tally.round_trip = round_trip.or(p.tally.round_trip);
        });
    }

    /// Records bytes that were received over the network.
    pub fn record_transfer(&self, bytes: u64) {
        self.progress.send_modify(|p| p.tally.transferred_bytes += bytes);
    }

    /// Records a pack and the `bytes` that were received of it over the network.
    pub fn record_pack(&self, bytes: u64) {
        self.progress.send_modify(|p| {
            p.tally.packs += 1;
            p.tally.transferred_bytes += bytes;
        });
    }

    /// Counts all objects without an outcome as failed.
    pub fn fail_unfinished(&self, cause: FailureCause) {
        self.progress.send_modify(|p| p.tally.fail_unfinished(cause));
    }

    /// The current tally.
    pub fn tally(&self) -> Tally {
        self.progress.borrow().tally
    }

    /// The tally of a bundle that was replaced by another one.
    pub(super) fn replaced_tally(&self) -> Tally {
        self.progress.borrow().replaced
    }

    /// Records an error. Only the first is kept.
    pub fn error(&self, message: &str) {
        self.progress.send_modify(|p| {
            if p.error.is_empty() {
                p.error = message.to_owned();
            }
        });
    }

    /// Records an error that matters more than an earlier one.
    pub fn replace_error(&self, message: &str) {
        self.progress.send_modify(|p| p.error = message.to_owned());
    }

    /// Says whether the request cannot start before the daemon knows the settings of its repositories.
    pub fn set_waiting_for_settings(&self, waiting: bool) {
        self.progress.send_modify(|p| p.waiting_for_settings = waiting);
    }

    /// The first error, or an empty string.
    pub fn first_error(&self) -> String {
        self.progress.borrow().error.clone()
    }

    pub(super) fn end(&self, state: RequestState) {
        let elapsed = self.elapsed();
        self.progress.send_modify(|p| {
            p.state = state;
            p.waiting_for_settings = false;
            p.tally.elapsed = Some(elapsed);
            p.lookup.get_or_insert(elapsed);
        });
    }

    fn has_ended(&self) -> bool {
        self.progress.borrow().state != RequestState::Running
    }

    /// At least 1 us, because 0 means "not yet" in the API.
    fn elapsed(&self) -> Duration {
        self.started.elapsed().max(Duration::from_micros(1))
    }
}

impl Progress {
    fn record(&mut self, index: ObjectIndex, outcome: Outcome, count: Count) -> Arrival {
        self.tally.record(outcome, count);
        let was_pending = match outcome {
            Outcome::Cached => self.critical.exclude(index),
            Outcome::Fetched | Outcome::Joined => self.critical.fetched(index),
            Outcome::Skipped(SkipCause::Repository) => {
                // A start does not wait for objects that this daemon does not fetch.
                self.tally.critical_objects -= u64::from(self.critical.exclude(index));
                false
            }
            Outcome::Failed(_) | Outcome::Skipped(SkipCause::CacheFull | SkipCause::HourlyLimit) => {
                self.critical.missed(index);
                false
            }
        };
        if !was_pending {
            Arrival::Other
        } else if self.critical.is_ready() {
            Arrival::LastCritical
        } else {
            Arrival::Critical
        }
    }

    fn note_critical_time(&mut self, now: Duration) {
        if self.critical.is_ready() {
            self.tally.time_to_critical.get_or_insert(now);
        }
    }
}
