//! The requests that the daemon runs and remembers.
//!
//! Who asks for an image that is being prefetched joins the running request. Ended requests are remembered for
//! [`Requests::get`], the oldest are forgotten first.

mod critical;
pub mod image_query;
mod running;
pub mod spec;
pub mod tally;
#[cfg(test)]
mod tests;
mod totals;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::proto::{RequestState, RequestStatus};
use tokio::sync::watch;

use image_query::ImageQuery;
pub use running::{Arrival, Request};
use spec::PrefetchSpec;
pub use totals::Totals;

/// Most requests that run at a time. Each holds its bundle in memory.
pub const MAX_RUNNING: usize = 256;
/// Most ended requests that are remembered.
pub const MAX_ENDED: usize = 1024;

/// All requests.
#[derive(Debug)]
pub struct Requests {
    inner: Mutex<Inner>,
    max_running: usize,
    max_ended: usize,
    /// How many requests run, for those that do something only then.
    running: watch::Sender<usize>,
}

#[derive(Debug)]
struct Inner {
    next_id: u64,
    running: BTreeMap<u64, Arc<Request>>,
    ended: BTreeMap<u64, Arc<Request>>,
    /// Of all that have ended, also of those that are forgotten.
    totals: Totals,
}

/// The answer to [`Requests::admit`].
#[derive(Debug)]
pub enum Admitted {
    /// To be run by the caller.
    New(Running),
    /// Runs already.
    Joined(Arc<Request>),
}

/// The duty to run a request to its end. Dropped without [`Running::end`], the request has failed.
#[derive(Debug)]
pub struct Running {
    requests: Arc<Requests>,
    request: Arc<Request>,
}

/// More requests than can be run.
#[derive(Debug, thiserror::Error)]
#[error("{0} requests are running, no more are taken; ask again later")]
pub struct TooMany(usize);

impl Requests {
    /// No requests yet.
    pub fn new(max_running: usize, max_ended: usize) -> Arc<Self> {
        let inner = Inner { next_id: 1, running: BTreeMap::new(), ended: BTreeMap::new(), totals: Totals::default() };
        Arc::new(Self { inner: Mutex::new(inner), max_running, max_ended, running: watch::Sender::new(0) })
    }

    /// Notes a request, unless one runs that is also for what is asked. One with a bundle of its own is for nothing else.
    pub fn admit(self: &Arc<Self>, asked: &PrefetchSpec) -> Result<Admitted, TooMany> {
        let mut inner = self.lock();
        let serves = |request: &&Arc<Request>| {
            !request.brings_bundle
                && asked.bundle.is_none()
                && request.is_wanted()
                && request.wanted.covers(&asked.wanted)
        };
        if let Some(request) = inner.running.values().find(serves) {
            request.join(asked);
            return Ok(Admitted::Joined(request.clone()));
        }
        if inner.running.len() >= self.max_running {
            return Err(TooMany(inner.running.len()));
        }
        let id = inner.next_id;
        inner.next_id += 1;
        let request = Arc::new(Request::new(id, asked));
        inner.running.insert(id, request.clone());
        self.running.send_replace(inner.running.len());
        Ok(Admitted::New(Running { requests: self.clone(), request }))
    }

    /// The images that were asked for, as far as it is remembered, each once.
    pub fn images(&self) -> Vec<ImageQuery> {
        let inner = self.lock();
        let mut images: Vec<ImageQuery> = Vec::new();
        for request in inner.running.values().chain(inner.ended.values()) {
            if !request.brings_bundle && !images.contains(&request.wanted) {
                images.push(request.wanted.clone());
            }
        }
        images
    }

    /// The request `id`, if it is known.
    pub fn get(&self, id: u64) -> Option<Arc<Request>> {
        let inner = self.lock();
        inner.running.get(&id).or_else(|| inner.ended.get(&id)).cloned()
    }

    /// All that are known, newest first.
    pub fn list(&self) -> Vec<RequestStatus> {
        let inner = self.lock();
        let mut all: Vec<_> = inner.running.values().chain(inner.ended.values()).cloned().collect();
        drop(inner);
        all.sort_by_key(|r| std::cmp::Reverse(r.id));
        all.iter().map(|r| r.status()).collect()
    }

    /// The number of running requests, now and whenever it changes.
    pub fn running(&self) -> watch::Receiver<usize> {
        self.running.subscribe()
    }

    /// What all requests have done until now.
    pub fn totals(&self) -> Totals {
        let inner = self.lock();
        let mut totals = inner.totals.clone();
        totals.running = inner.running.len() as u64;
        inner.running.values().for_each(|request| totals.add(request));
        totals
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    /// The request.
    pub fn request(&self) -> &Arc<Request> {
        &self.request
    }

    /// The request is over.
    pub fn end(self, state: RequestState) {
        self.set_end(state);
    }

    fn set_end(&self, state: RequestState) {
        let mut inner = self.requests.lock();
        if inner.running.remove(&self.request.id).is_none() {
            return;
        }
        self.requests.running.send_replace(inner.running.len());
        inner.ended.insert(self.request.id, self.request.clone());
        while inner.ended.len() > self.requests.max_ended {
            inner.ended.pop_first();
        }
        *inner.totals.ended.entry(state).or_default() += 1;
        inner.totals.add(&self.request);
        drop(inner);
        self.request.end(state);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let running = self.requests.lock().running.contains_key(&self.request.id);
        if running {
            self.request.error("the daemon stopped before the end of the request");
            self.request.fail_rest(|a| &mut a.failed_shutdown);
            self.set_end(RequestState::Failed);
        }
    }
}
