//! What a program requested from the origin.

use std::ops::Add;

use serde::{Deserialize, Serialize};
use testbed::web::Request;

/// Requests to the origin and the bytes of their responses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Traffic {
    pub(super) requests: u64,
    pub(super) bytes: u64,
}

impl Traffic {
    /// Counts the requests of `client`, a label of the origin.
    pub(super) fn count(requests: &[Request], client: &str) -> Self {
        let own = || requests.iter().filter(|request| request.client == client);
        Self { requests: own().count() as u64, bytes: own().map(|request| request.bytes).sum() }
    }
}

impl Add for Traffic {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { requests: self.requests + other.requests, bytes: self.bytes + other.bytes }
    }
}
