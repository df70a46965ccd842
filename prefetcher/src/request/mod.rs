//! The requests that the daemon runs and remembers.
//!
//! A call for an image that is being prefetched joins the running request. Ended requests are remembered for [`Requests::get`];
//! the oldest are forgotten first.

mod critical;
pub mod image_query;
mod running;
pub mod spec;
pub mod tally;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use api::proto::{RequestState, RequestStatus};
use parking_lot::Mutex;
use tokio::sync::watch;

use image_query::ImageQuery;
pub use running::{Arrival, Request};
use spec::PrefetchSpec;
use tally::{FailureCause, Totals};

/// Maximum number of running requests. Each holds its bundle in memory.
pub const MAX_RUNNING: usize = 256;
/// Maximum number of ended requests that are remembered.
pub const MAX_ENDED: usize = 1024;

/// All running and remembered requests.
#[derive(Debug)]
pub struct Requests {
    inner: Mutex<Inner>,
    max_running: usize,
    max_ended: usize,
    /// Number of running requests, for tasks that work only while there are some.
    running: watch::Sender<usize>,
}

#[derive(Debug)]
struct Inner {
    next_id: u64,
    running: BTreeMap<u64, Arc<Request>>,
    ended: BTreeMap<u64, Arc<Request>>,
    /// Of all requests that have ended, including those that are forgotten.
    totals: Totals,
}

/// The result of [`Requests::admit`].
#[derive(Debug)]
pub enum Admitted {
    /// A new request, which the caller must run.
    New(Running),
    /// A running request that was joined.
    Joined(Arc<Request>),
}

/// The duty to run a request to its end. Dropped without [`Running::end`], the request has failed.
#[derive(Debug)]
pub struct Running {
    requests: Arc<Requests>,
    request: Arc<Request>,
}

/// Too many requests are running.
#[derive(Debug, thiserror::Error)]
#[error("{0} requests are running, no more are taken; ask again later")]
pub struct TooMany(usize);

impl Requests {
    /// An empty list of requests.
    pub fn new(max_running: usize, max_ended: usize) -> Arc<Self> {
        let inner = Inner { next_id: 1, running: BTreeMap::new(), ended: BTreeMap::new(), totals: Totals::default() };
        Arc::new(Self { inner: Mutex::new(inner), max_running, max_ended, running: watch::Sender::new(0) })
    }

    /// Joins the request to a running one for the same image, or adds it. Requests with a bundle of their own are never joined.
    pub fn admit(self: &Arc<Self>, spec: &PrefetchSpec) -> Result<Admitted, TooMany> {
        let mut inner = self.inner.lock();
        let serves = |request: &&Arc<Request>| {
            !request.brings_bundle
                && spec.bundle.is_none()
                && !request.is_cancelled()
                && request.query.covers(&spec.query)
        };
        if let Some(request) = inner.running.values().find(serves) {
            request.join(spec);
            return Ok(Admitted::Joined(request.clone()));
        }
        if inner.running.len() >= self.max_running {
            return Err(TooMany(inner.running.len()));
        }
        let id = inner.next_id;
        inner.next_id += 1;
        let request = Arc::new(Request::new(id, spec));
        inner.running.insert(id, request.clone());
        self.running.send_replace(inner.running.len());
        Ok(Admitted::New(Running { requests: self.clone(), request }))
    }

    /// The images of all requests that are remembered, each once.
    pub fn images(&self) -> Vec<ImageQuery> {
        let inner = self.inner.lock();
        let mut images: Vec<ImageQuery> = Vec::new();
        for request in inner.running.values().chain(inner.ended.values()) {
            if !request.brings_bundle && !images.contains(&request.query) {
                images.push(request.query.clone());
            }
        }
        images
    }

    /// The request with this ID, if it is remembered.
    pub fn get(&self, id: u64) -> Option<Arc<Request>> {
        let inner = self.inner.lock();
        inner.running.get(&id).or_else(|| inner.ended.get(&id)).cloned()
    }

    /// The status of all requests that are remembered, newest first.
    pub fn list(&self) -> Vec<RequestStatus> {
        let inner = self.inner.lock();
        let mut all: Vec<_> = inner.running.values().chain(inner.ended.values()).cloned().collect();
        drop(inner);
        all.sort_by_key(|r| std::cmp::Reverse(r.id));
        all.iter().map(|r| r.status()).collect()
    }

    /// The number of running requests. The receiver sees every change.
    pub fn running(&self) -> watch::Receiver<usize> {
        self.running.subscribe()
    }

    /// The sum over all requests until now.
    pub fn totals(&self) -> Totals {
        let inner = self.inner.lock();
        let mut totals = inner.totals.clone();
        totals.running = inner.running.len() as u64;
        inner.running.values().for_each(|request| add(&mut totals, request));
        totals
    }
}

impl Running {
    /// The request that must be run.
    pub fn request(&self) -> &Arc<Request> {
        &self.request
    }

    /// Ends the request.
    pub fn end(self, state: RequestState) {
        self.set_end(state);
    }

    fn set_end(&self, state: RequestState) {
        let mut inner = self.requests.inner.lock();
        if inner.running.remove(&self.request.id).is_none() {
            return;
        }
        self.requests.running.send_replace(inner.running.len());
        inner.ended.insert(self.request.id, self.request.clone());
        while inner.ended.len() > self.requests.max_ended {
            inner.ended.pop_first();
        }
        *inner.totals.ended.entry(state).or_default() += 1;
        add(&mut inner.totals, &self.request);
        drop(inner);
        self.request.end(state);
    }
}

fn add(totals: &mut Totals, request: &Request) {
    totals.tally.add(&request.replaced_tally());
    totals.tally.add(&request.tally());
}

impl Drop for Running {
    fn drop(&mut self) {
        let running = self.requests.inner.lock().running.contains_key(&self.request.id);
        if running {
            self.request.error("the daemon stopped before the end of the request");
            self.request.fail_unfinished(FailureCause::Shutdown);
            self.set_end(RequestState::Failed);
        }
    }
}
