//! What requests have done together.

use std::collections::BTreeMap;

use super::Request;
use crate::api::{Account, RequestState};

/// Sums over all requests since the daemon runs.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    /// How many have ended, and how.
    pub ended: BTreeMap<RequestState, u64>,
    /// Their accounts, and those of the running ones until now.
    pub account: Account,
    /// How many run.
    pub running: u64,
}

impl Totals {
    /// Adds what a request has done.
    pub(super) fn add(&mut self, request: &Request) {
        self.add_account(&request.account_of_replaced());
        self.add_account(&request.account_so_far());
    }

    /// Times are no numbers to add up.
    fn add_account(&mut self, of: &Account) {
        let sum = &mut self.account;
        for (sum, more) in [
            (&mut sum.wanted_objects, of.wanted_objects),
            (&mut sum.already_there_objects, of.already_there_objects),
            (&mut sum.fetched_objects, of.fetched_objects),
            (&mut sum.joined_objects, of.joined_objects),
            (&mut sum.skipped_objects, of.skipped_objects),
            (&mut sum.skipped_budget_objects, of.skipped_budget_objects),
            (&mut sum.failed_objects, of.failed_objects),
            (&mut sum.failed_transfer, of.failed_transfer),
            (&mut sum.failed_verification, of.failed_verification),
            (&mut sum.failed_write, of.failed_write),
            (&mut sum.failed_stopped, of.failed_stopped),
            (&mut sum.failed_given_up, of.failed_given_up),
            (&mut sum.fetched_stored_bytes, of.fetched_stored_bytes),
            (&mut sum.fetched_raw_bytes, of.fetched_raw_bytes),
        ] {
            *sum = sum.saturating_add(more);
        }
    }
}

/// How many objects an account tells the fate of.
pub(super) fn told(account: &Account) -> u64 {
    account.already_there_objects
        + account.fetched_objects
        + account.joined_objects
        + account.failed_objects
        + account.skipped_objects
}
