//! One fetch's tries: the ways one after the other, and all of them again after a pause.
//!
//! Wrong bytes from behind a proxy are asked for once more, past what the proxy keeps. They are the failure that is told, if
//! there were any: they are what must not go unnoticed.

use std::time::Duration;

use tracing::debug;

use super::round::Round;
use super::routes::{Routes, Way};
use crate::fetch::failure::{Cause, Failure};

/// What has been tried of one fetch.
#[derive(Debug)]
pub(in crate::fetch) struct Retry<'a> {
    routes: &'a Routes,
    attempts: Round<'a>,
    round: u32,
    /// What is tried now.
    turn: Option<Turn>,
    /// The same way once more, past the proxy's cache.
    again: bool,
    told: Option<Failure>,
}

/// What to try.
#[derive(Debug, Clone, Copy)]
pub(in crate::fetch) struct Turn {
    pub(in crate::fetch) way: Way,
    /// What a proxy keeps is not to be trusted.
    pub(in crate::fetch) fresh: bool,
}

impl<'a> Retry<'a> {
    pub(in crate::fetch) fn new(routes: &'a Routes) -> Self {
        Self { routes, attempts: Round::new(routes), round: 0, turn: None, again: false, told: None }
    }

    /// What to try next, if anything is left; after a pause if all ways have failed.
    pub(in crate::fetch) async fn next(&mut self) -> Option<Turn> {
        if self.again {
            self.again = false;
            return self.turn;
        }
        let fresh = self.turn.is_some_and(|turn| turn.fresh);
        let way = match self.attempts.next_way() {
            Some(way) => way,
            None => {
                let policy = self.routes.upstream().policy;
                self.round += 1;
                if self.round > policy.retries || !self.attempts.again() {
                    return None;
                }
                tokio::time::sleep(pause(policy.first_backoff, policy.max_backoff, self.round)).await;
                self.attempts.next_way()?
            }
        };
        self.turn = Some(Turn { way, fresh });
        self.turn
    }

    /// What was tried has failed. An error if nothing else is worth trying.
    pub(in crate::fetch) fn failed(&mut self, failure: Failure) -> Result<(), Failure> {
        let Some(turn) = &mut self.turn else { return Err(failure) };
        if failure.cause == Cause::Write {
            return Err(failure);
        }
        debug!(round = self.round, cause = ?failure.cause, blame = ?failure.blame, error = %failure, "attempt failed");
        if failure.cause == Cause::Verification && self.routes.is_proxied(turn.way) && !turn.fresh {
            (turn.fresh, self.again) = (true, true);
        } else {
            self.attempts.failed(turn.way, &failure);
        }
        if self.told.as_ref().is_none_or(|told| told.cause != Cause::Verification) {
            self.told = Some(failure);
        }
        Ok(())
    }

    /// Why all have failed.
    pub(in crate::fetch) fn failure(self) -> Failure {
        self.told.unwrap_or_else(|| Failure::refused("no server is known"))
    }
}

/// How long to wait before `round`: doubled each time, and up to half as long again, so that nodes do not march in step.
fn pause(first: Duration, longest: Duration, round: u32) -> Duration {
    let base = first.saturating_mul(2u32.saturating_pow(round.saturating_sub(1))).min(longest);
    base + base.mul_f64(rand::random_range(0.0..0.5))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_but_not_for_ever() {
        let (first, longest) = (Duration::from_millis(100), Duration::from_secs(5));
        for round in 1..40 {
            let shortest = first.saturating_mul(2u32.saturating_pow(round - 1)).min(longest);
            let pause = pause(first, longest, round);
            assert!(pause >= shortest && pause <= shortest * 2);
        }
    }
}
