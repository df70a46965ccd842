//! Server faults.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

/// A fault for some paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Responds with this status and no body.
    Status(u16),
    /// Announces the whole body, sends this many bytes and breaks the connection.
    Truncate(u64),
    /// Sends a body of the right length with every byte changed.
    Garbage,
    /// Does not respond until [`heal`](super::Origin::heal).
    Stall,
}

type Predicate = Box<dyn Fn(&str) -> bool + Send + Sync>;

/// The faults of an origin.
pub(super) struct Faults {
    active: Mutex<Vec<(Predicate, Fault)>>,
    /// Counts the calls of `clear`.
    healed: watch::Sender<u64>,
}

impl Default for Faults {
    fn default() -> Self {
        Self { active: Mutex::default(), healed: watch::Sender::new(0) }
    }
}

impl Faults {
    pub(super) fn add(&self, which: Predicate, fault: Fault) {
        self.active.lock().unwrap_or_else(PoisonError::into_inner).push((which, fault));
    }

    pub(super) fn clear(&self) {
        self.active.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.healed.send_modify(|count| *count += 1);
    }

    fn find(&self, path: &str) -> Option<Fault> {
        let active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        active.iter().find(|(which, _)| which(path)).map(|(_, fault)| *fault)
    }

    /// The fault for a request for `path`; waits while the request is stalled.
    pub(super) async fn apply(&self, path: &str) -> Option<Fault> {
        let mut healed = self.healed.subscribe();
        loop {
            match self.find(path) {
                // The sender lives as long as `self`.
                Some(Fault::Stall) => _ = healed.changed().await,
                other => return other,
            }
        }
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faults").finish_non_exhaustive()
    }
}
