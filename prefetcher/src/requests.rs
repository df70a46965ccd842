//! The requests that the daemon runs and remembers.
//!
//! Who asks for an image that is being prefetched joins the running request. Ended requests are remembered for
//! [`Requests::get`], the oldest are forgotten first.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::watch;

use crate::api::{Account, RequestState, RequestStatus};
use crate::wanted::Wanted;

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
}

#[derive(Debug)]
struct Inner {
    next_id: u64,
    running: BTreeMap<u64, Arc<Request>>,
    ended: BTreeMap<u64, Arc<Request>>,
}

/// One request.
#[derive(Debug)]
pub struct Request {
    /// Its name.
    pub id: u64,
    /// What it asks for.
    pub wanted: Wanted,
    started: Instant,
    progress: watch::Sender<Progress>,
}

#[derive(Debug, Clone, Default)]
struct Progress {
    state: RequestState,
    error: String,
    bundle_source: String,
    account: Account,
    lookup_us: u64,
}

/// The answer to [`Requests::admit`].
#[derive(Debug)]
pub enum Admitted {
    /// To be run by the caller.
    New(Running),
    /// Runs already.
    Joined(u64),
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
        let inner = Inner { next_id: 1, running: BTreeMap::new(), ended: BTreeMap::new() };
        Arc::new(Self { inner: Mutex::new(inner), max_running, max_ended })
    }

    /// Notes a request for `wanted`, unless one runs that is also for it.
    pub fn admit(self: &Arc<Self>, wanted: Wanted) -> Result<Admitted, TooMany> {
        let mut inner = self.lock();
        if let Some(request) = inner.running.values().find(|r| r.wanted.covers(&wanted)) {
            return Ok(Admitted::Joined(request.id));
        }
        if inner.running.len() >= self.max_running {
            return Err(TooMany(inner.running.len()));
        }
        let id = inner.next_id;
        inner.next_id += 1;
        let progress = watch::Sender::new(Progress { state: RequestState::Running, ..Progress::default() });
        let request = Arc::new(Request { id, wanted, started: Instant::now(), progress });
        inner.running.insert(id, request.clone());
        Ok(Admitted::New(Running { requests: self.clone(), request }))
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

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Request {
    /// What has become of it so far.
    pub fn status(&self) -> RequestStatus {
        let Progress { state, error, bundle_source, mut account, lookup_us } = self.progress.borrow().clone();
        if state == RequestState::Running {
            account.elapsed_us = self.elapsed_us();
        }
        RequestStatus {
            request_id: self.id,
            image: Some(self.wanted.to_api()),
            state: state.into(),
            error,
            bundle_source,
            account: Some(account),
            lookup_us,
        }
    }

    /// What has become of it in the end.
    pub async fn ended(&self) -> RequestStatus {
        // The sender lives in `self`, so this does not fail.
        let _ = self.progress.subscribe().wait_for(|p| p.state != RequestState::Running).await;
        self.status()
    }

    /// The bundle was found.
    pub fn found(&self, source: &str, objects: u64) {
        let lookup_us = self.elapsed_us();
        self.progress.send_modify(|p| {
            p.bundle_source = source.to_owned();
            p.account.wanted_objects = objects;
            p.lookup_us = lookup_us;
        });
    }

    /// Writes into the account.
    pub fn account(&self, change: impl FnOnce(&mut Account)) {
        self.progress.send_modify(|p| change(&mut p.account));
    }

    /// The account until now, without the time.
    pub fn account_so_far(&self) -> Account {
        self.progress.borrow().account
    }

    /// Its place among others; a smaller one goes first.
    pub fn rank(&self) -> u8 {
        1
    }

    /// Notes an error; only the first is kept.
    pub fn error(&self, why: &str) {
        self.progress.send_modify(|p| {
            if p.error.is_empty() {
                p.error = why.to_owned();
            }
        });
    }

    fn elapsed_us(&self) -> u64 {
        self.started.elapsed().as_micros() as u64
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
        inner.ended.insert(self.request.id, self.request.clone());
        while inner.ended.len() > self.requests.max_ended {
            inner.ended.pop_first();
        }
        drop(inner);
        let elapsed_us = self.request.elapsed_us();
        self.request.progress.send_modify(|p| {
            p.state = state;
            p.account.elapsed_us = elapsed_us;
            if p.lookup_us == 0 {
                p.lookup_us = elapsed_us;
            }
        });
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let running = self.requests.lock().running.contains_key(&self.request.id);
        if running {
            self.request.error("the daemon stopped before the end of the request");
            self.request.account(|a| {
                let told = a.already_there_objects + a.fetched_objects + a.joined_objects + a.failed_objects;
                let rest = a.wanted_objects.saturating_sub(told);
                a.failed_objects += rest;
                a.failed_stopped += rest;
            });
            self.set_end(RequestState::Failed);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use bundles::image::{ChainId, Digest};

    fn wanted(name: &str) -> Wanted {
        Wanted {
            chain: Some(ChainId(Digest::of(name.as_bytes()))),
            manifest: None,
            reference: name.into(),
            profile: String::new(),
        }
    }

    fn new(requests: &Arc<Requests>, name: &str) -> Running {
        match requests.admit(wanted(name)).unwrap() {
            Admitted::New(running) => running,
            Admitted::Joined(id) => panic!("{name} joined {id}"),
        }
    }

    #[tokio::test]
    async fn a_running_image_is_joined_and_an_ended_one_starts_anew() {
        let requests = Requests::new(2, 2);
        let first = new(&requests, "a");
        let id = first.request().id;
        assert!(matches!(requests.admit(wanted("a")).unwrap(), Admitted::Joined(joined) if joined == id));
        let waiting = requests.get(id).unwrap();
        let waiter = tokio::spawn(async move { waiting.ended().await });
        first.request().error("one");
        first.request().error("two");
        first.end(RequestState::NoBundle);
        let status = waiter.await.unwrap();
        assert_eq!((status.state(), status.error.as_str()), (RequestState::NoBundle, "one"));
        assert_ne!(new(&requests, "a").request().id, id);
    }

    #[test]
    fn running_and_remembered_requests_are_bounded() {
        let requests = Requests::new(2, 3);
        let held = [new(&requests, "a"), new(&requests, "b")];
        assert!(requests.admit(wanted("c")).unwrap_err().to_string().contains("ask again later"));
        drop(held);
        for name in ["d", "e"] {
            new(&requests, name).end(RequestState::Done);
        }
        let known: Vec<u64> = requests.list().iter().map(|r| r.request_id).collect();
        assert_eq!(known, [4, 3, 2]);
        assert!(requests.get(1).is_none());
    }

    #[test]
    fn a_request_that_nobody_runs_any_more_has_failed() {
        let requests = Requests::new(1, 1);
        let running = new(&requests, "a");
        let id = running.request().id;
        running.request().found("store", 5);
        running.request().account(|a| a.fetched_objects = 2);
        drop(running);
        let status = requests.get(id).unwrap().status();
        assert_eq!(status.state(), RequestState::Failed);
        assert!(status.error.contains("stopped"));
        let account = status.account.unwrap();
        assert_eq!((account.failed_objects, account.failed_stopped), (3, 3));
    }
}
