//! Single flight: whoever wants an object that is on its way waits for it instead of fetching it again.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

/// What is on its way. `K` says what is the same thing, `R` is how it ends.
#[derive(Debug)]
pub struct SingleFlight<K: Eq + Hash, R> {
    running: Mutex<HashMap<K, watch::Receiver<Option<R>>>>,
}

/// The answer to [`SingleFlight::board`].
#[derive(Debug)]
pub enum Seat<'a, K: Eq + Hash + Clone, R> {
    /// Nobody else is at it: do it and [`Leader::land`].
    Leader(Leader<'a, K, R>),
    /// Somebody is: [`Joiner::wait`].
    Joiner(Joiner<R>),
}

/// The duty to end a flight. Dropped without [`Leader::land`], it tells the joiners that nobody is at it any more.
#[derive(Debug)]
pub struct Leader<'a, K: Eq + Hash + Clone, R> {
    flights: &'a SingleFlight<K, R>,
    key: K,
    result: watch::Sender<Option<R>>,
}

/// A place in somebody else's flight.
#[derive(Debug)]
pub struct Joiner<R> {
    result: watch::Receiver<Option<R>>,
}

impl<K: Eq + Hash + Clone, R: Clone> Default for SingleFlight<K, R> {
    fn default() -> Self {
        Self { running: Mutex::default() }
    }
}

impl<K: Eq + Hash + Clone, R: Clone> SingleFlight<K, R> {
    /// Joins the flight of `key`, or starts it.
    pub fn board(&self, key: &K) -> Seat<'_, K, R> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(result) = running.get(key) {
            return Seat::Joiner(Joiner { result: result.clone() });
        }
        let (sender, receiver) = watch::channel(None);
        running.insert(key.clone(), receiver);
        Seat::Leader(Leader { flights: self, key: key.clone(), result: sender })
    }
}

impl<K: Eq + Hash + Clone, R> Leader<'_, K, R> {
    /// Ends the flight and tells everyone aboard.
    pub fn land(self, result: R) {
        self.result.send_replace(Some(result));
    }
}

impl<K: Eq + Hash + Clone, R> Drop for Leader<'_, K, R> {
    fn drop(&mut self) {
        self.flights.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

impl<R: Clone> Joiner<R> {
    /// How the flight ended; `None` if its leader gave up without a result.
    pub async fn wait(mut self) -> Option<R> {
        let result = self.result.wait_for(Option::is_some).await.ok()?;
        result.clone()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn leader<'a>(flights: &'a SingleFlight<u8, u32>, key: u8) -> Leader<'a, u8, u32> {
        match flights.board(&key) {
            Seat::Leader(leader) => leader,
            Seat::Joiner(_) => panic!("{key} is on its way already"),
        }
    }

    fn joiner(flights: &SingleFlight<u8, u32>, key: u8) -> Joiner<u32> {
        match flights.board(&key) {
            Seat::Joiner(joiner) => joiner,
            Seat::Leader(_) => panic!("{key} is not on its way"),
        }
    }

    #[tokio::test]
    async fn all_aboard_get_the_leaders_result_and_the_next_starts_anew() {
        let flights = SingleFlight::default();
        let first = leader(&flights, 1);
        let other = leader(&flights, 2);
        let joiners = [joiner(&flights, 1), joiner(&flights, 1)];
        first.land(7);
        for joiner in joiners {
            assert_eq!(joiner.wait().await, Some(7));
        }
        leader(&flights, 1).land(8);
        other.land(9);
        assert!(flights.running.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_leader_that_gives_up_lets_the_joiners_go() {
        let flights = SingleFlight::default();
        let first = leader(&flights, 1);
        let joiner = joiner(&flights, 1);
        drop(first);
        assert_eq!(joiner.wait().await, None);
        leader(&flights, 1).land(1);
    }
}
