//! What running containers ask for themselves comes first: when a CVMFS client answers late, the daemon steps back.
//!
//! While a request runs, each mount's client is asked every now and then for an extended attribute of its root. No cache of
//! the kernel answers that, and it needs no network: it takes long when all threads of the client wait for downloads, or
//! the node's cores are taken. That is when a container's look-ups take long, too. [`Policy`] says what follows. There
//! is one question at a time to a mount, so one that hangs costs one thread.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use bundles::cvmfs::attribute;
use futures::FutureExt;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::policy::Policy;
use crate::cache::through_mount::READERS;
use crate::repository::Repository;

/// How often clients are asked.
const INTERVAL: Duration = Duration::from_millis(200);
/// A client that is silent for so long hangs, and nobody gets anything from it.
const HUNG: Duration = Duration::from_secs(10);
/// Known without a look at anything but the mount's configuration.
const ATTRIBUTE: &str = "user.fqrn";

/// What is throttled, and what says when.
#[derive(Debug)]
pub struct Throttle {
    /// Their clients are asked, and their connections are reduced.
    pub repositories: Vec<Arc<Repository>>,
    /// Permits of reads through mounts, which are reduced too.
    pub mount_reads: Arc<Semaphore>,
    /// Number of running requests. Clients are asked only while it is not 0.
    pub running: watch::Receiver<usize>,
    /// Ends it.
    pub shutdown: CancellationToken,
    /// Shows the current share of the connections.
    pub connection_share: Gauge<f64, AtomicU64>,
}

impl Throttle {
    /// Asks the clients of all repositories while requests run, until the daemon shuts down.
    pub async fn watch(mut self) {
        let mounts = self.repositories.iter().map(|repository| repository.mount.clone());
        let ask = |mount: PathBuf| move || attribute(&mount, ATTRIBUTE).is_ok_and(|value| value.is_some());
        let mut clients: Vec<Client<_>> = mounts.map(|mount| Client::new(ask(mount))).collect();
        let mut steps = Steps { share: 1.0, held: Vec::new() };
        self.connection_share.set(1.0);
        loop {
            while *self.running.borrow_and_update() == 0 {
                clients.iter_mut().for_each(|client| _ = client.courtesy.unknown());
                steps.to(1.0, &self);
                tokio::select! {
                    () = self.shutdown.cancelled() => return,
                    changed = self.running.changed() => if changed.is_err() { return },
                }
            }
            clients.iter_mut().for_each(Client::ask);
            if tokio::time::timeout(INTERVAL, self.shutdown.cancelled()).await.is_ok() {
                return;
            }
            steps.to(clients.iter_mut().map(|client| client.heard(Instant::now())).fold(1.0, f64::min), &self);
        }
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
        let readers = ((READERS as f64 * share) as usize).max(1);
        self.held.truncate(READERS - readers);
        while self.held.len() < READERS - readers {
            // Those that read now are asked again the next time.
            let Ok(permit) = throttle.mount_reads.clone().try_acquire_owned() else { break };
            self.held.push(permit);
        }
        if share == self.share {
            return;
        }
        if share < 1.0 && self.share >= 1.0 {
            info!(share, "a CVMFS client answers late: stepping back");
        } else if share >= 1.0 {
            info!("CVMFS clients answer in time");
        }
        self.share = share;
        throttle.repositories.iter().for_each(|repository| repository.routes.set_share(share));
        throttle.connection_share.set(share);
    }
}

/// One mount's client, and the question to it that is on its way.
struct Client<A> {
    /// Asks it; false if there is none.
    question: A,
    courtesy: Policy,
    asked: Option<(Instant, JoinHandle<Option<Duration>>)>,
}

impl<A: Fn() -> bool + Clone + Send + 'static> Client<A> {
    fn new(question: A) -> Self {
        Self { question, courtesy: Policy::new(), asked: None }
    }

    /// Asks, unless an answer is still awaited.
    fn ask(&mut self) {
        if self.asked.is_some() {
            return;
        }
        let question = self.question.clone();
        let work = move || {
            let started = Instant::now();
            question().then(|| started.elapsed())
        };
        self.asked = Some((Instant::now(), tokio::task::spawn_blocking(work)));
    }

    /// What follows from the answer, or from its absence.
    fn heard(&mut self, now: Instant) -> f64 {
        let Some((since, mut answer)) = self.asked.take() else { return self.courtesy.unknown() };
        match (&mut answer).now_or_never() {
            Some(Ok(Some(took))) => self.courtesy.answered(took),
            Some(Ok(None) | Err(_)) => self.courtesy.unknown(),
            None => {
                self.asked = Some((since, answer));
                match now.saturating_duration_since(since) {
                    silent if silent < HUNG => self.courtesy.answered(silent),
                    _ => self.courtesy.unknown(),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    /// A client that answers when the test says what.
    fn client() -> (Client<impl Fn() -> bool + Clone + Send + 'static>, Sender<bool>, Arc<AtomicUsize>) {
        let (answers, questions) = channel();
        let (questions, count) = (Arc::new(Mutex::new(questions)), Arc::new(AtomicUsize::new(0)));
        let counted = count.clone();
        let question = move || {
            counted.fetch_add(1, Ordering::Relaxed);
            questions.lock().unwrap().recv().unwrap_or(false)
        };
        (Client::new(question), answers, count)
    }

    async fn answered(client: &Client<impl Fn() -> bool>) {
        while !client.asked.as_ref().unwrap().1.is_finished() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_silent_client_is_asked_once_and_given_way_to_until_it_is_thought_to_hang() {
        let (mut client, answers, count) = client();
        client.ask();
        answers.send(true).unwrap();
        answered(&client).await;
        // What is usual, however busy the machine of this test is.
        assert_eq!(client.heard(Instant::now()), 1.0);
        client.courtesy = Policy::new();
        client.courtesy.answered(Duration::from_millis(1));
        client.ask();
        let (since, second) = (Instant::now(), Duration::from_secs(1));
        let shares: Vec<f64> = [1, 2, 3, 20]
            .map(|late| {
                client.ask();
                client.heard(since + second * late)
            })
            .to_vec();
        assert_eq!(shares, [1.0, 0.5, 0.25, 1.0]);
        answers.send(true).unwrap();
        answered(&client).await;
        assert_eq!(count.load(Ordering::Relaxed), 2, "a thread for each question");
    }

    #[tokio::test]
    async fn where_no_client_is_mounted_nobody_is_given_way_to() {
        let (mut client, answers, _) = client();
        (0..3).for_each(|_| _ = client.courtesy.answered(Duration::from_millis(1)));
        (0..3).for_each(|_| _ = client.courtesy.answered(Duration::from_secs(1)));
        client.ask();
        answers.send(false).unwrap();
        answered(&client).await;
        assert_eq!(client.heard(Instant::now()), 1.0);
    }
}
