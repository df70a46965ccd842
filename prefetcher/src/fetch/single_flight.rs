//! Single flight: a download of an object that is being downloaded already waits for that one instead of starting another.
//!
//! A download has a pace: the bandwidth limit of its request. Nobody waits for one that is slower than its own would be, because
//! whoever asks for an object slowly could keep it from everybody else.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::hash::Hash;
use tokio::sync::watch;

/// The downloads that are running. `K` identifies what is downloaded, `R` is the result.
#[derive(Debug)]
pub struct SingleFlight<K: Eq + Hash, R> {
    running: Mutex<HashMap<K, Running<R>>>,
}

#[derive(Debug)]
struct Running<R> {
    result: watch::Receiver<Option<R>>,
    pace: Pace,
}

/// Bytes per second that a download may take at most; no limit of its own if `None`.
type Pace = Option<u64>;

/// Who does the work: the result of [`SingleFlight::join_or_lead`].
#[derive(Debug)]
pub enum Flight<'a, K: Eq + Hash + Clone, R> {
    /// The caller: it does the work and calls [`Leader::finish`].
    Lead(Leader<'a, K, R>),
    /// Another caller: this one waits for it with [`Joiner::wait`].
    Join(Joiner<R>),
}

/// The duty to end a flight. Dropped without [`Leader::finish`], the joiners learn that nobody does the work any more.
#[derive(Debug)]
pub struct Leader<'a, K: Eq + Hash + Clone, R> {
    flights: &'a SingleFlight<K, R>,
    key: K,
    result: watch::Sender<Option<R>>,
}

/// Waits for another caller's flight.
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
    /// Joins the flight of `key`, or starts one. A flight that is slower than `pace` is left alone, and others join the new one.
    pub fn join_or_lead(&self, key: &K, pace: Pace) -> Flight<'_, K, R> {
        let mut running = self.running.lock();
        if let Some(flight) = running.get(key).filter(|flight| !is_slower(flight.pace, pace)) {
            return Flight::Join(Joiner { result: flight.result.clone() });
        }
        let (sender, result) = watch::channel(None);
        running.insert(key.clone(), Running { result, pace });
        Flight::Lead(Leader { flights: self, key: key.clone(), result: sender })
    }
}

fn is_slower(pace: Pace, than: Pace) -> bool {
    pace.is_some_and(|pace| than.is_none_or(|than| pace < than))
}

impl<K: Eq + Hash + Clone, R> Leader<'_, K, R> {
    /// Ends the flight and passes the result to all joiners.
    pub fn finish(self, result: R) {
        self.result.send_replace(Some(result));
    }
}

impl<K: Eq + Hash + Clone, R> Drop for Leader<'_, K, R> {
    fn drop(&mut self) {
        let mut running = self.flights.running.lock();
        // Unless a faster one has taken over.
        if running.get(&self.key).is_some_and(|flight| flight.result.same_channel(&self.result.subscribe())) {
            running.remove(&self.key);
        }
    }
}

impl<R: Clone> Joiner<R> {
    /// Returns the result of the flight; `None` if its leader was dropped without one.
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
        match flights.join_or_lead(&key, None) {
            Flight::Lead(leader) => leader,
            Flight::Join(_) => panic!("{key} has a leader already"),
        }
    }

    fn joiner(flights: &SingleFlight<u8, u32>, key: u8) -> Joiner<u32> {
        match flights.join_or_lead(&key, None) {
            Flight::Join(joiner) => joiner,
            Flight::Lead(_) => panic!("{key} has no leader"),
        }
    }

    #[tokio::test]
    async fn joiners_get_the_result_and_the_next_call_leads_again() {
        let flights = SingleFlight::default();
        let first = leader(&flights, 1);
        let other = leader(&flights, 2);
        let joiners = [joiner(&flights, 1), joiner(&flights, 1)];
        first.finish(7);
        for joiner in joiners {
            assert_eq!(joiner.wait().await, Some(7));
        }
        leader(&flights, 1).finish(8);
        other.finish(9);
        assert!(flights.running.lock().is_empty());
    }

    #[tokio::test]
    async fn joiners_of_a_dropped_leader_get_no_result() {
        let flights = SingleFlight::default();
        let first = leader(&flights, 1);
        let joiner = joiner(&flights, 1);
        drop(first);
        assert_eq!(joiner.wait().await, None);
        leader(&flights, 1).finish(1);
    }

    #[tokio::test]
    async fn nobody_waits_for_a_slower_flight() {
        let flights = SingleFlight::default();
        let leads = |pace| match flights.join_or_lead(&1, pace) {
            Flight::Lead(leader) => Ok(leader),
            Flight::Join(joiner) => Err(joiner),
        };
        let slow = leads(Some(1024)).unwrap();
        let waits_for_slow = leads(Some(1024)).unwrap_err();
        let fast = leads(Some(4096)).unwrap();
        let waits_for_fast = [leads(Some(1024)).unwrap_err(), leads(Some(4096)).unwrap_err()];
        let free = leads(None).unwrap();
        let waits_for_free = leads(None).unwrap_err();
        // The end of one that was left says nothing to the others.
        slow.finish(1);
        fast.finish(2);
        assert_eq!(waits_for_slow.wait().await, Some(1));
        for joiner in waits_for_fast {
            assert_eq!(joiner.wait().await, Some(2));
        }
        let late = leads(None).unwrap_err();
        free.finish(3);
        assert_eq!((waits_for_free.wait().await, late.wait().await), (Some(3), Some(3)));
        assert!(flights.running.lock().is_empty());
    }
}
