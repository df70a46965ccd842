//! What running containers ask for themselves comes first: when a CVMFS client answers late, the daemon steps back.
//!
//! While a request runs, each mount's client is asked every now and then for an extended attribute of its root. No cache of
//! the kernel answers that, and it needs no network: it takes long when all threads of the client wait for downloads, or
//! the node's cores are taken. That is when a container's look-ups take long, too. [`Courtesy`] says what follows. There
//! is one question at a time to a mount, so one that hangs costs one thread.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bundles::cvmfs::attribute;
use futures::FutureExt;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinHandle;
use tracing::info;

use super::Daemon;
use super::courtesy::Courtesy;
use crate::sink::mount::READERS;

/// How often clients are asked.
const INTERVAL: Duration = Duration::from_millis(200);
/// A client that is silent for so long hangs, and nobody gets anything from it.
const HUNG: Duration = Duration::from_secs(10);
/// Known without a look at anything but the mount's configuration.
const ATTRIBUTE: &str = "user.fqrn";

/// Asks the clients of all repositories while requests run, until the daemon stops.
pub(super) async fn watch(daemon: Arc<Daemon>) {
    let mounts = daemon.repositories.values().map(|repository| repository.mount.clone());
    let ask = |mount: PathBuf| move || attribute(&mount, ATTRIBUTE).is_ok_and(|told| told.is_some());
    let mut clients: Vec<Client<_>> = mounts.map(|mount| Client::new(ask(mount))).collect();
    let mut steps = Steps { daemon: &daemon, share: 1.0, held: Vec::new() };
    loop {
        while daemon.requests.is_idle() {
            clients.iter_mut().for_each(|client| _ = client.courtesy.unknown());
            steps.to(1.0);
            tokio::select! {
                () = daemon.stopping.cancelled() => return,
                () = daemon.busy.notified() => {}
            }
        }
        clients.iter_mut().for_each(Client::ask);
        if tokio::time::timeout(INTERVAL, daemon.stopping.cancelled()).await.is_ok() {
            return;
        }
        steps.to(clients.iter_mut().map(|client| client.heard(Instant::now())).fold(1.0, f64::min));
    }
}

/// Where the daemon stands.
struct Steps<'a> {
    daemon: &'a Daemon,
    share: f64,
    /// Places among those who read through mounts, which are the threads of a client that containers want.
    held: Vec<OwnedSemaphorePermit>,
}

impl Steps<'_> {
    fn to(&mut self, share: f64) {
        let readers = ((READERS as f64 * share) as usize).max(1);
        self.held.truncate(READERS - readers);
        while self.held.len() < READERS - readers {
            // Those that read now are asked again the next time.
            let Ok(permit) = self.daemon.mount_reads.clone().try_acquire_owned() else { break };
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
        self.daemon.repositories.values().for_each(|repository| repository.routes.set_share(share));
        self.daemon.metrics.share(share);
    }
}

/// One mount's client, and the question to it that is on its way.
struct Client<A> {
    /// Asks it; false if there is none.
    question: A,
    courtesy: Courtesy,
    asked: Option<(Instant, JoinHandle<Option<Duration>>)>,
}

impl<A: Fn() -> bool + Clone + Send + 'static> Client<A> {
    fn new(question: A) -> Self {
        Self { question, courtesy: Courtesy::new(), asked: None }
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
        client.courtesy = Courtesy::new();
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
