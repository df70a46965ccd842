//! One request: what has become of it so far, and how it is told to end.

use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use api::proto::{Priority, RequestState, RequestStatus, Tally};
use bundles::bundle::{Bundle, BundleObject, ObjectIndex};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::critical::Critical;
use super::image_query::ImageQuery;
use super::spec::PrefetchSpec;
use super::tally;
use crate::fetch::limits::per_request::{RequestLimit, Terms};

/// One request.
#[derive(Debug)]
pub struct Request {
    /// Its name.
    pub id: u64,
    /// What it asks for.
    pub wanted: ImageQuery,
    /// The name that its first caller gave to what it does.
    pub correlation_id: String,
    /// Whether its caller brought the bundle.
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
    /// That of a bundle that was found to be outdated.
    replaced: Tally,
    lookup_us: u64,
    critical: Critical,
    waiting_for_settings: bool,
}

/// What an object that is in the cache now was to its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// Nothing that the start waits for.
    Other,
    /// One of the critical ones.
    Critical,
    /// The last of the critical ones, and none was missed.
    LastCritical,
}

impl Request {
    pub(super) fn new(id: u64, asked: &PrefetchSpec) -> Self {
        let started = Instant::now();
        Self {
            id,
            wanted: asked.wanted.clone(),
            correlation_id: asked.correlation_id.clone(),
            brings_bundle: asked.bundle.is_some(),
            limit: RequestLimit::new(asked.bytes_per_second),
            started,
            priority: AtomicI32::new(asked.priority.into()),
            joined_calls: AtomicU64::new(0),
            deadline: watch::Sender::new(asked.deadline.map(|within| started + within)),
            cancelled: CancellationToken::new(),
            progress: watch::Sender::new(Progress { state: RequestState::Running, ..Progress::default() }),
        }
    }

    /// Another call is served by this request, too: what is more of both holds.
    pub(super) fn join(&self, asked: &PrefetchSpec) {
        self.joined_calls.fetch_add(1, Ordering::Relaxed);
        self.priority.fetch_max(asked.priority.into(), Ordering::Relaxed);
        self.limit.widen(asked.bytes_per_second);
        let other = asked.deadline.map(|within| Instant::now() + within);
        self.deadline.send_modify(|own| *own = own.zip(other).map(|(own, other)| own.max(other)));
    }

    /// How urgent it is now.
    pub fn priority(&self) -> Priority {
        Priority::try_from(self.priority.load(Ordering::Relaxed)).unwrap_or(Priority::Normal)
    }

    /// On which terms its objects are fetched now.
    pub fn terms(&self) -> Terms<'_> {
        let rank = match self.priority() {
            Priority::High => 0,
            Priority::Normal | Priority::Unspecified => 1,
            Priority::Low => 2,
        };
        Terms { rank, own: &self.limit }
    }

    /// Raises or lowers the priority, unless the request has ended.
    pub fn set_priority(&self, priority: Priority) {
        if !self.has_ended() {
            self.priority.store(priority.into(), Ordering::Relaxed);
        }
    }

    /// Whether nobody has cancelled it.
    pub(super) fn is_wanted(&self) -> bool {
        !self.cancelled.is_cancelled()
    }

    /// Tells it to end.
    pub fn cancel(&self) {
        self.cancelled.cancel();
    }

    /// Waits until it is to end before it is done; how it has ended then.
    pub async fn given_up(&self) -> RequestState {
        let mut deadline = self.deadline.subscribe();
        loop {
            let at = *deadline.borrow_and_update();
            let passed = async {
                match at {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.cancelled.cancelled() => return RequestState::Cancelled,
                () = passed => return RequestState::Deadline,
                // A call with a later one has joined.
                _ = deadline.changed() => {}
            }
        }
    }

    /// What has become of it so far.
    pub fn status(&self) -> RequestStatus {
        let (state, error, bundle_source, tally, lookup_us, waiting_for_settings) = {
            // Not a clone: there can be many critical objects.
            let p = self.progress.borrow();
            let mut tally = p.tally;
            tally.critical_pending_objects = p.critical.awaited() as u64;
            if p.state == RequestState::Running {
                tally.elapsed_us = self.elapsed_us();
                let head_start = p.critical.head_start(Duration::from_micros(tally.elapsed_us));
                tally.recommended_delay_us = head_start.map(|time| time.as_micros().try_into().unwrap_or(u64::MAX));
            }
            (p.state, p.error.clone(), p.bundle_source.clone(), tally, p.lookup_us, p.waiting_for_settings)
        };
        let deadline = self.deadline.borrow().map_or(Duration::ZERO, |at| at - self.started);
        RequestStatus {
            request_id: self.id,
            image: Some(self.wanted.to_api()),
            state: state.into(),
            error,
            bundle_source,
            tally: Some(tally),
            lookup_us,
            priority: self.priority().into(),
            deadline_ms: deadline.as_millis() as u64,
            correlation_id: self.correlation_id.clone(),
            joined_calls: self.joined_calls.load(Ordering::Relaxed),
            bytes_per_second: self.limit.bytes_per_second().unwrap_or(0),
            waiting_for_settings,
        }
    }

    /// What has become of it in the end.
    pub async fn ended(&self) -> RequestStatus {
        // The sender lives in `self`, so this does not fail.
        let _ = self.progress.subscribe().wait_for(|p| p.state != RequestState::Running).await;
        self.status()
    }

    /// Waits until all critical objects are in, or it is clear that they will not all come, or for `within`; whether they
    /// are in.
    pub async fn critical(&self, within: Duration) -> bool {
        let is_settled = |p: &Progress| p.state != RequestState::Running || p.critical.is_settled();
        let mut progress = self.progress.subscribe();
        // Late or not, what is so now counts.
        let _ = tokio::time::timeout(within, progress.wait_for(is_settled)).await;
        self.progress.borrow().critical.is_in()
    }

    /// The bundle was found, and the objects of `plan` are wanted from it. If it takes the place of another one, the tally
    /// begins anew, but for what that has cost already.
    pub fn found(&self, source: &str, bundle: &Bundle, plan: &[ObjectIndex]) {
        let lookup_us = self.elapsed_us();
        let critical = Critical::of(bundle, plan);
        let bytes =
            |of: fn(&BundleObject) -> u64| plan.iter().fold(0u64, |sum, i| sum.saturating_add(of(bundle.object(*i))));
        self.progress.send_modify(|p| {
            p.bundle_source = source.to_owned();
            p.error.clear();
            let Tally { transferred_bytes, packs, time_to_first_byte_us, .. } = p.tally;
            let anew = Tally { transferred_bytes, packs, time_to_first_byte_us, ..Tally::default() };
            p.replaced = std::mem::replace(&mut p.tally, anew);
            p.tally.total_objects = plan.len() as u64;
            p.tally.total_stored_bytes = bytes(|object| object.stored_size);
            p.tally.total_raw_bytes = bytes(|object| object.raw_size);
            p.tally.critical_objects = critical.awaited() as u64;
            p.lookup_us = lookup_us;
            p.critical = critical;
        });
        self.settle(|_| {});
    }

    /// Writes into the tally.
    pub fn tally(&self, change: impl FnOnce(&mut Tally)) {
        self.progress.send_modify(|p| change(&mut p.tally));
    }

    /// Bytes have come over the network. To be told with the first ones; later ones change nothing.
    pub fn first_byte(&self) {
        let now = self.elapsed_us();
        self.progress.send_if_modified(|p| {
            let is_first = p.tally.time_to_first_byte_us == 0;
            if is_first {
                p.tally.time_to_first_byte_us = now;
            }
            is_first
        });
    }

    /// The object at this place of the bundle was in the cache before.
    pub fn already_there(&self, index: ObjectIndex) -> Arrival {
        self.note_in_cache(|critical| critical.set_aside(index))
    }

    /// The object at this place of the bundle has come.
    pub fn delivered(&self, index: ObjectIndex) -> Arrival {
        self.note_in_cache(|critical| critical.came(index))
    }

    fn note_in_cache(&self, was_awaited: impl FnOnce(&mut Critical) -> bool) -> Arrival {
        let mut arrival = Arrival::Other;
        self.settle(|critical| {
            if was_awaited(critical) {
                arrival = if critical.is_in() { Arrival::LastCritical } else { Arrival::Critical };
            }
        });
        arrival
    }

    /// The object at this place of the bundle will not come.
    pub fn missed(&self, index: ObjectIndex) {
        self.settle(|critical| critical.missed(index));
    }

    /// The objects at these places are nothing that this daemon is to bring; the start does not wait for it.
    pub fn skipped(&self, indices: &[ObjectIndex]) {
        let mut critical_objects = 0;
        self.settle(|critical| {
            critical_objects = indices.iter().filter(|index| critical.set_aside(**index)).count() as u64;
        });
        self.tally(|a| {
            a.skipped_objects += indices.len() as u64;
            a.critical_objects -= critical_objects;
        });
    }

    fn settle(&self, change: impl FnOnce(&mut Critical)) {
        let now = self.elapsed_us();
        self.progress.send_modify(|p| {
            change(&mut p.critical);
            if p.critical.is_in() && p.tally.time_to_critical_us == 0 {
                p.tally.time_to_critical_us = now;
            }
        });
    }

    /// The tally until now, without the time.
    pub fn tally_so_far(&self) -> Tally {
        self.progress.borrow().tally
    }

    /// What was done for a bundle that another one took the place of.
    pub(super) fn replaced_tally(&self) -> Tally {
        self.progress.borrow().replaced
    }

    /// What the tally does not tell yet has failed; `cause` is where the number goes.
    pub fn fail_rest(&self, cause: impl FnOnce(&mut Tally) -> &mut u64) {
        self.tally(|a| {
            let rest = a.total_objects.saturating_sub(tally::finished(a));
            a.failed_objects += rest;
            *cause(a) += rest;
        });
    }

    /// Says whether the request cannot start before the daemon knows the settings of its repositories.
    pub fn set_waiting_for_settings(&self, waiting: bool) {
        self.progress.send_modify(|p| p.waiting_for_settings = waiting);
    }

    /// Notes an error; only the first is kept.
    pub fn error(&self, why: &str) {
        self.progress.send_modify(|p| {
            if p.error.is_empty() {
                p.error = why.to_owned();
            }
        });
    }

    pub(super) fn end(&self, state: RequestState) {
        let elapsed_us = self.elapsed_us();
        self.progress.send_modify(|p| {
            p.state = state;
            p.waiting_for_settings = false;
            p.tally.elapsed_us = elapsed_us;
            if p.lookup_us == 0 {
                p.lookup_us = elapsed_us;
            }
        });
    }

    fn has_ended(&self) -> bool {
        self.progress.borrow().state != RequestState::Running
    }

    /// Never 0, which says "not yet".
    fn elapsed_us(&self) -> u64 {
        (self.started.elapsed().as_micros() as u64).max(1)
    }
}
