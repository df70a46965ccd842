//! Measures how soon CVMFS clients answer, and throttles the daemon while they answer late.
//!
//! While a request runs, the client of each mounted repository is queried every now and then for an extended attribute of the mount
//! point; repositories that are not mounted are not touched, because an automounter would mount them. The kernel does
//! not cache it, and the client needs no network to answer: the answer is late when all threads of the client wait for downloads, or
//! the node's cores are busy. Then lookups of containers are late, too. [`Policy`] says what follows. There is one query at a
//! time to a mount, through its guard.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use bundles::attribute::attribute;
use futures::FutureExt;
use node::mount::{Call, Mount, MountError};
use node::mount_table::MountTable;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::policy::Policy;
use crate::cache::mount_reader::READS;
use crate::repository::ByName;

/// Interval between two queries of a client.
const INTERVAL: Duration = Duration::from_millis(200);
/// Number of queries after which it is looked up again which repositories are mounted.
const REFRESH: u32 = 25;
/// A client that is silent for this long hangs. Throttling does not help it.
const HUNG: Duration = Duration::from_secs(10);
/// An attribute that the client answers from memory.
const ATTRIBUTE: &str = "user.fqrn";

/// What is throttled, and what says when.
#[derive(Debug)]
pub struct Throttle {
    /// Repositories whose clients are probed, and whose connections are reduced.
    pub repositories: watch::Receiver<ByName>,
    /// Permits of reads through mounts, which are reduced too.
    pub mount_reads: Arc<Semaphore>,
    /// Number of running requests. Clients are probed only while it is not 0.
    pub running: watch::Receiver<usize>,
    /// Ends it.
    pub shutdown: CancellationToken,
    /// Shows the current share of the connections.
    pub connection_share: Gauge<f64, AtomicU64>,
}

impl Throttle {
    /// Asks the clients of all repositories while requests run, until the daemon shuts down.
    pub async fn watch(mut self) {
        let mut clients = HashMap::new();
        let mut steps = Steps { share: 1.0, held: Vec::new() };
        let mut queries = 0;
        self.connection_share.set(1.0);
        loop {
            while *self.running.borrow_and_update() == 0 {
                clients.values_mut().for_each(|client: &mut Client<_>| _ = client.policy.unknown());
                steps.to(1.0, &self);
                queries = 0;
                tokio::select! {
                    () = self.shutdown.cancelled() => return,
                    changed = self.running.changed() => if changed.is_err() { return },
                }
            }
            if queries % REFRESH == 0 || self.repositories.has_changed().unwrap_or(false) {
                let mounted = self.mounted().await;
                clients.retain(|path, _| mounted.iter().any(|mount| mount.path() == path));
                for mount in mounted {
                    let new = |mount: Mount| Client::new(move || query(mount.clone()));
                    clients.entry(mount.path().to_owned()).or_insert_with(|| new(mount));
                }
                self.set_share(steps.share);
            }
            queries = queries.wrapping_add(1);
            clients.values_mut().for_each(Client::ask);
            if tokio::time::timeout(INTERVAL, self.shutdown.cancelled()).await.is_ok() {
                return;
            }
            steps.to(clients.values_mut().map(|client| client.share(Instant::now())).fold(1.0, f64::min), &self);
        }
    }

    /// The mounts of repositories that are mounted now.
    async fn mounted(&mut self) -> Vec<Mount> {
        let repositories = self.repositories.borrow_and_update().clone();
        let mounts: Vec<Mount> = repositories.values().map(|repository| repository.mount.clone()).collect();
        let mounted = tokio::task::spawn_blocking(move || {
            let table = MountTable::read().unwrap_or_default();
            mounts.into_iter().filter(|mount| table.at(mount.path()).is_some()).collect()
        });
        mounted.await.unwrap_or_default()
    }

    fn set_share(&self, share: f64) {
        self.repositories.borrow().values().for_each(|repository| repository.routes.set_share(share));
    }
}

/// How far the daemon is throttled.
struct Steps {
    share: f64,
    /// Permits taken from the reads through mounts, which occupy the threads of a client that containers need.
    held: Vec<OwnedSemaphorePermit>,
}

impl Steps {
    fn to(&mut self, share: f64, throttle: &Throttle) {
        let readers = ((READS as f64 * share) as usize).max(1);
        self.held.truncate(READS - readers);
        while self.held.len() < READS - readers {
            // Those that read now are asked again the next time.
            let Ok(permit) = throttle.mount_reads.clone().try_acquire_owned() else { break };
            self.held.push(permit);
        }
        if share == self.share {
            return;
        }
        if share < 1.0 && self.share >= 1.0 {
            info!(share, "throttling: a CVMFS client answers late");
        } else if share >= 1.0 {
            info!("throttling ended: CVMFS clients answer in time");
        }
        self.share = share;
        throttle.set_share(share);
        throttle.connection_share.set(share);
    }
}

/// What a query of a client came to.
#[derive(Debug)]
enum Answer {
    /// It answered, after this time.
    After(Duration),
    /// No client is mounted there, or it hangs.
    None,
    /// It was not queried, because too many other calls were outstanding.
    Unknown,
}

/// Queries the client of a mount for an attribute.
async fn query(mount: Mount) -> Answer {
    let query = |call: &Call| {
        let started = Instant::now();
        Ok(attribute(call.root(), ATTRIBUTE)?.map(|_| started.elapsed()))
    };
    match mount.try_run(HUNG, query).await {
        Ok(Some(time)) => Answer::After(time),
        Err(MountError::Busy { .. }) if !mount.is_hung() => Answer::Unknown,
        Ok(None) | Err(_) => Answer::None,
    }
}

/// One mount's client, and the query of it that is under way.
struct Client<Q> {
    query: Q,
    policy: Policy,
    under_way: Option<(Instant, JoinHandle<Answer>)>,
}

impl<Q: Fn() -> F, F: Future<Output = Answer> + Send + 'static> Client<Q> {
    fn new(query: Q) -> Self {
        Self { query, policy: Policy::new(), under_way: None }
    }

    /// Queries the client, unless a query is still under way.
    fn ask(&mut self) {
        if self.under_way.is_none() {
            self.under_way = Some((Instant::now(), tokio::spawn((self.query)())));
        }
    }

    /// The share that follows from the answer, or from its absence.
    fn share(&mut self, now: Instant) -> f64 {
        let Some((since, mut answer)) = self.under_way.take() else { return self.policy.unknown() };
        match (&mut answer).now_or_never() {
            Some(Ok(Answer::After(time))) => self.policy.answered(time),
            Some(Ok(Answer::Unknown)) => self.policy.share(),
            Some(Ok(Answer::None) | Err(_)) => self.policy.unknown(),
            None => {
                self.under_way = Some((since, answer));
                match now.saturating_duration_since(since) {
                    silent if silent < HUNG => self.policy.answered(silent),
                    _ => self.policy.unknown(),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::BoxFuture;
    use tokio::sync::{Mutex, mpsc};

    use super::*;

    /// Answers of a client when the test sends them: whether it is there.
    type Answers = mpsc::UnboundedSender<bool>;

    /// A client that answers when the test says what, and the number of queries.
    fn client() -> (Client<impl Fn() -> BoxFuture<'static, Answer>>, Answers, Arc<AtomicUsize>) {
        let (answers, queries) = mpsc::unbounded_channel();
        let (queries, count) = (Arc::new(Mutex::new(queries)), Arc::new(AtomicUsize::new(0)));
        let counted = count.clone();
        let query = move || {
            counted.fetch_add(1, Ordering::Relaxed);
            let queries = queries.clone();
            let answer = async move {
                let started = Instant::now();
                match queries.lock().await.recv().await {
                    Some(true) => Answer::After(started.elapsed()),
                    Some(false) | None => Answer::None,
                }
            };
            answer.boxed()
        };
        (Client::new(query), answers, count)
    }

    async fn answered<Q>(client: &Client<Q>) {
        while !client.under_way.as_ref().unwrap().1.is_finished() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_silent_client_throttles_until_it_counts_as_hung() {
        let (mut client, answers, count) = client();
        client.ask();
        answers.send(true).unwrap();
        answered(&client).await;
        // What is usual, however busy the machine of this test is.
        assert_eq!(client.share(Instant::now()), 1.0);
        client.policy = Policy::new();
        client.policy.answered(Duration::from_millis(1));
        client.ask();
        let (since, second) = (Instant::now(), Duration::from_secs(1));
        let shares: Vec<f64> = [1, 2, 3, 20]
            .map(|late| {
                client.ask();
                client.share(since + second * late)
            })
            .to_vec();
        assert_eq!(shares, [1.0, 0.5, 0.25, 1.0]);
        answers.send(true).unwrap();
        answered(&client).await;
        assert_eq!(count.load(Ordering::Relaxed), 2, "one query at a time");
    }

    #[tokio::test]
    async fn without_a_mounted_client_nothing_is_throttled() {
        let (mut client, answers, _) = client();
        (0..3).for_each(|_| _ = client.policy.answered(Duration::from_millis(1)));
        (0..3).for_each(|_| _ = client.policy.answered(Duration::from_secs(1)));
        client.ask();
        answers.send(false).unwrap();
        answered(&client).await;
        assert_eq!(client.share(Instant::now()), 1.0);
    }
}
