//! The origin's log of requests.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// One request, as logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `GET` or `HEAD`.
    pub method: String,
    /// The URL's path.
    pub path: String,
    /// The `Range` header.
    pub range: Option<String>,
    /// Status of the response.
    pub status: u16,
    /// Bytes of the body handed to the connection so far.
    pub bytes: u64,
    /// Time of arrival, since the origin's start.
    pub started: Duration,
    /// Label of the client; see [`Origin::address_for`](super::Origin::address_for).
    pub client: String,
}

/// Sums over one client's requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Number of TCP connections.
    pub connections: u64,
    /// Number of requests.
    pub requests: u64,
    /// Bytes of the response bodies.
    pub bytes: u64,
}

#[derive(Debug)]
struct Entry {
    request: Request,
    bytes: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct Records {
    entries: Vec<Entry>,
    connections: HashMap<String, u64>,
}

#[derive(Debug)]
pub(super) struct Log {
    start: Instant,
    records: Mutex<Records>,
}

impl Default for Log {
    fn default() -> Self {
        Self { start: Instant::now(), records: Mutex::default() }
    }
}

impl Log {
    fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Time since the origin's start.
    pub(super) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    pub(super) fn connected(&self, client: &str) {
        *self.records().connections.entry(client.to_owned()).or_default() += 1;
    }

    /// Logs a request; returns the counter for the bytes of its body.
    pub(super) fn add(&self, request: Request) -> Arc<AtomicU64> {
        let bytes = Arc::new(AtomicU64::new(0));
        self.records().entries.push(Entry { request, bytes: Arc::clone(&bytes) });
        bytes
    }

    pub(super) fn requests(&self) -> Vec<Request> {
        self.records().entries.iter().map(Entry::now).collect()
    }

    pub(super) fn take(&self) -> Vec<Request> {
        let mut records = self.records();
        records.connections.clear();
        records.entries.drain(..).map(|entry| entry.now()).collect()
    }

    pub(super) fn totals(&self, client: &str) -> Totals {
        let records = self.records();
        let mut totals =
            Totals { connections: records.connections.get(client).copied().unwrap_or(0), ..Totals::default() };
        for entry in records.entries.iter().filter(|e| e.request.client == client) {
            totals.requests += 1;
            totals.bytes += entry.bytes.load(Ordering::Relaxed);
        }
        totals
    }
}

impl Entry {
    fn now(&self) -> Request {
        Request { bytes: self.bytes.load(Ordering::Relaxed), ..self.request.clone() }
    }
}
