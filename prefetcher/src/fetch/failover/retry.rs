//! The attempts of one download: one route after the other, and all of them again after a pause.
//!
//! After wrong bytes from a proxy, the same route is tried once more past the proxy's cache. If all attempts fail, wrong bytes are
//! the failure that is reported, because they must not go unnoticed.

use std::time::Duration;

use tracing::debug;

use super::round::Round;
use super::routes::{Route, Routes};
use crate::fetch::failure::{Cause, Failure};

/// The attempts of one download so far.
#[derive(Debug)]
pub(in crate::fetch) struct Retry<'a> {
    routes: &'a Routes,
    round: Round<'a>,
    /// Number of rounds before this one.
    retries: u32,
    current: Option<Try>,
    /// Whether the same route is next, past the proxy's cache.
    same_again: bool,
    /// The failure to report if nothing succeeds.
    failure: Option<Failure>,
}

/// What an attempt tries.
#[derive(Debug, Clone, Copy)]
pub(in crate::fetch) struct Try {
    pub(in crate::fetch) route: Route,
    /// Whether proxies must not answer from their caches.
    pub(in crate::fetch) bypass_cache: bool,
}

impl<'a> Retry<'a> {
    pub(in crate::fetch) fn new(routes: &'a Routes) -> Self {
        Self { routes, round: Round::new(routes), retries: 0, current: None, same_again: false, failure: None }
    }

    /// Returns what to try next, after a pause if all routes have failed; `None` if nothing is left.
    pub(in crate::fetch) async fn next(&mut self) -> Option<Try> {
        if self.same_again {
            self.same_again = false;
            return self.current;
        }
        let bypass_cache = self.current.is_some_and(|current| current.bypass_cache);
        let route = match self.round.next_route() {
            Some(route) => route,
            None => {
                let policy = self.routes.upstream().policy;
                self.retries += 1;
                if self.retries > policy.retries || !self.round.restart() {
                    return None;
                }
                tokio::time::sleep(pause(policy.first_backoff, policy.max_backoff, self.retries)).await;
                self.round.next_route()?
            }
        };
        self.current = Some(Try { route, bypass_cache });
        self.current
    }

    /// Records that the current attempt has failed. Returns the failure if no other attempt would help.
    pub(in crate::fetch) fn failed(&mut self, failure: Failure) -> Result<(), Failure> {
        let Some(current) = &mut self.current else { return Err(failure) };
        if failure.cause == Cause::Write {
            return Err(failure);
        }
        debug!(retries = self.retries, cause = ?failure.cause, blame = ?failure.blame, error = %failure, "attempt failed");
        if failure.cause == Cause::Verification && self.routes.is_proxied(current.route) && !current.bypass_cache {
            current.bypass_cache = true;
            self.same_again = true;
        } else {
            self.round.failed(current.route, &failure);
        }
        if self.failure.as_ref().is_none_or(|earlier| earlier.cause != Cause::Verification) {
            self.failure = Some(failure);
        }
        if self.round.is_absent()
            && let Some(failure) = self.failure.take()
        {
            return Err(failure);
        }
        Ok(())
    }

    /// The failure to report after all attempts have failed.
    pub(in crate::fetch) fn failure(self) -> Failure {
        self.failure.unwrap_or_else(|| Failure::refused("no server is known"))
    }
}

/// Returns the pause before a retry: doubled each time, with a random addition of up to a half so that nodes do not retry together.
fn pause(first: Duration, max: Duration, retry: u32) -> Duration {
    let base = first.saturating_mul(2u32.saturating_pow(retry.saturating_sub(1))).min(max);
    base + base.mul_f64(rand::random_range(0.0..0.5))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_maximum() {
        let (first, longest) = (Duration::from_millis(100), Duration::from_secs(5));
        for round in 1..40 {
            let shortest = first.saturating_mul(2u32.saturating_pow(round - 1)).min(longest);
            let pause = pause(first, longest, round);
            assert!(pause >= shortest && pause <= shortest * 2);
        }
    }
}
