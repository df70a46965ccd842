//! What requests have done together.

use std::collections::BTreeMap;

use api::proto::{RequestState, Tally};

use super::running::Request;
use super::tally;

/// Sums over all requests since the daemon runs.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    /// How many have ended, and how.
    pub ended: BTreeMap<RequestState, u64>,
    /// Their tallies, and those of the running ones until now.
    pub tally: Tally,
    /// How many run.
    pub running: u64,
}

impl Totals {
    /// Adds what a request has done.
    pub(super) fn add(&mut self, request: &Request) {
        tally::add(&mut self.tally, &request.replaced_tally());
        tally::add(&mut self.tally, &request.tally_so_far());
    }
}
