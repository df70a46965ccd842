//! Telling the prefetch daemon which image is about to be needed.
//!
//! Giving a hint only puts it into a bounded queue; a task of its own talks to the daemon, one hint at a time and each
//! within a deadline. A daemon that is not there, hangs or says no costs a hint, one log line when that begins, one when
//! it ends, and a counter each time.
//!
//! Where the configuration has a container's start wait ([`crate::wait`]), that call talks to the daemon itself, within the
//! bound; unless the daemon is known to be ill: then its hint goes into the queue, and nobody waits.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bundles::image::{ChainId, Digest};
use prefetcher::api;
use prefetcher::client::{Client, ClientError};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;

use crate::config::Config;
use crate::counters::Counters;
use crate::labels::Labels;
use crate::wait::{End, Policy, judge, settled};

/// Hints that may wait. More than a node starts containers while the daemon takes its time for one.
const QUEUE: usize = 256;
/// How long the daemon may take to note a request. It answers before it does anything.
const DEADLINE: Duration = Duration::from_secs(1);
/// Between two looks at a prefetch that is waited for.
const LOOK: Duration = Duration::from_millis(10);
/// Pulls that are remembered, to give each a single hint.
const PULLS: usize = 64;

/// Gives hints. Without a daemon's socket it gives none.
#[derive(Debug)]
pub struct Hints {
    daemon: Option<Daemon>,
    pulls: Mutex<Pulls>,
    policy: Policy,
    bound: Duration,
    counters: Arc<Counters>,
}

/// The daemon, as far as it is known.
#[derive(Debug)]
struct Daemon {
    client: Client,
    queue: mpsc::Sender<api::PrefetchRequest>,
    is_ill: Arc<AtomicBool>,
}

impl Hints {
    /// Starts the task. Must be called in a tokio runtime.
    pub fn start(config: &Config, counters: Arc<Counters>) -> Self {
        let daemon = config.prefetch_socket.as_deref().map(|socket| {
            let (queue, receiver) = mpsc::channel(QUEUE);
            let client = Client::connect_lazy(socket).with_deadline(DEADLINE);
            let is_ill = Arc::new(AtomicBool::new(false));
            tokio::spawn(deliver(client.clone(), receiver, Arc::clone(&is_ill), Arc::clone(&counters)));
            Daemon { client, queue, is_ill }
        });
        Self { daemon, pulls: Mutex::default(), policy: config.wait, bound: config.wait_bound(), counters }
    }

    /// A layer of an image is being pulled. Only the first of a pull gives a hint.
    pub fn pull(&self, labels: &Labels) {
        use crate::snapshot::label;
        let get = |label| labels.get(label).map(String::as_str).unwrap_or_default();
        let Ok(manifest) = get(label::MANIFEST_DIGEST).parse::<Digest>() else { return };
        let is_new = {
            let mut pulls = self.pulls.lock().unwrap_or_else(PoisonError::into_inner);
            pulls.note(manifest, get(label::SNAPSHOT_REF))
        };
        if is_new {
            let image = api::Image {
                manifest_digest: manifest.to_string(),
                reference: get(label::IMAGE_REF).to_owned(),
                ..api::Image::default()
            };
            self.give(image, get(label::SNAPSHOT_REF));
        }
    }

    /// A container is about to be started from the image of this chain ID, in the snapshot called `key`. Returns when it
    /// may start.
    pub async fn start_of_container(&self, chain_id: ChainId, key: &str) {
        let image = api::Image { chain_id: chain_id.to_string(), ..api::Image::default() };
        let Some(daemon) = &self.daemon else { return };
        if self.policy == Policy::None || daemon.is_ill.load(Ordering::Relaxed) {
            return self.give(image, key);
        }
        let begun = Instant::now();
        let client = daemon.client.clone().with_deadline(DEADLINE.min(self.bound));
        let end = match client.ask(request(image, key)).await {
            Ok(id) => {
                self.counters.hints_sent.increment();
                let rest = self.bound.saturating_sub(begun.elapsed());
                tokio::time::timeout(rest, wait(&client, self.policy, id)).await.unwrap_or(End::Bound)
            }
            Err(error) => {
                self.counters.hints_failed.increment();
                fell_ill(&daemon.is_ill, &error);
                End::Failed
            }
        };
        match end {
            End::Arrived => &self.counters.waits_arrived,
            End::Ahead => &self.counters.waits_ahead,
            End::NotWorthIt => &self.counters.waits_not_worth_it,
            End::Nothing => &self.counters.waits_for_nothing,
            End::Bound => &self.counters.waits_bounded,
            End::Failed => &self.counters.waits_failed,
        }
        .increment();
        tracing::info!(snapshot = key, %chain_id, ?end, waited_ms = begun.elapsed().as_millis() as u64, "waited for the prefetch");
    }

    /// An image that is on the node when this program starts.
    pub fn present(&self, chain_id: &str) {
        self.give(api::Image { chain_id: chain_id.to_owned(), ..api::Image::default() }, chain_id);
    }

    /// `snapshot` is the name under which the daemon's log tells of it, too.
    fn give(&self, image: api::Image, snapshot: &str) {
        if let Some(daemon) = &self.daemon
            && let Err(error) = daemon.queue.try_send(request(image, snapshot))
        {
            tracing::debug!(%error, "hint thrown away");
            self.counters.hints_dropped.increment();
        }
    }
}

fn request(image: api::Image, snapshot: &str) -> api::PrefetchRequest {
    let (image, correlation_id) = (Some(image), snapshot.to_owned());
    api::PrefetchRequest { image, correlation_id, ..api::PrefetchRequest::default() }
}

/// Waits for a request as the policy says. Bounded by who calls it.
async fn wait(client: &Client, policy: Policy, request: u64) -> End {
    let watch = async {
        let mut statuses = client.watch(request, LOOK).await?;
        while let Some(status) = statuses.next().await {
            let end = match policy {
                Policy::Adaptive => judge(&status?),
                Policy::Critical | Policy::None => settled(&status?),
            };
            if let Some(end) = end {
                return Ok(end);
            }
        }
        Ok::<_, ClientError>(End::Nothing)
    };
    watch.await.unwrap_or_else(|error| {
        tracing::debug!(%error, request, "the daemon tells no more of a prefetch");
        End::Failed
    })
}

/// One log line for each time that the daemon falls ill.
fn fell_ill(is_ill: &AtomicBool, error: &ClientError) {
    match is_ill.swap(true, Ordering::Relaxed) {
        true => tracing::debug!(%error, "still no prefetch"),
        false => tracing::warn!(%error, "no prefetch; containers start without it until it works"),
    }
}

async fn deliver(
    client: Client,
    mut queue: mpsc::Receiver<api::PrefetchRequest>,
    is_ill: Arc<AtomicBool>,
    counters: Arc<Counters>,
) {
    while let Some(hint) = queue.recv().await {
        let api::Image { chain_id, manifest_digest: manifest, .. } = hint.image.clone().unwrap_or_default();
        let snapshot = hint.correlation_id.clone();
        match client.ask(hint).await {
            Ok(request) => {
                counters.hints_sent.increment();
                tracing::info!(request, snapshot, chain_id, manifest, "prefetch asked for");
                if is_ill.swap(false, Ordering::Relaxed) {
                    tracing::info!("the prefetch daemon takes requests again");
                }
            }
            Err(error) => {
                counters.hints_failed.increment();
                tracing::debug!(snapshot, chain_id, manifest, "hint lost");
                fell_ill(&is_ill, &error);
            }
        }
    }
}

/// Which layers of which images were prepared lately. containerd prepares each layer once in a pull, so a layer that
/// comes again begins another pull.
#[derive(Debug, Default)]
struct Pulls(VecDeque<(Digest, HashSet<String>)>);

impl Pulls {
    /// Whether this layer begins a pull.
    fn note(&mut self, manifest: Digest, layer: &str) -> bool {
        if let Some((_, layers)) = self.0.iter_mut().find(|(known, _)| *known == manifest) {
            let is_new = layers.contains(layer);
            if is_new {
                layers.clear();
            }
            layers.insert(layer.to_owned());
            return is_new;
        }
        self.0.truncate(PULLS - 1);
        self.0.push_front((manifest, HashSet::from([layer.to_owned()])));
        true
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::snapshot::label;

    #[test]
    fn each_pull_of_an_image_gives_one_hint() {
        let (image, other) = (Digest::of(b"image"), Digest::of(b"other"));
        let mut pulls = Pulls::default();
        let mut note = |manifest, layers: &str| -> String {
            layers.chars().map(|layer| if pulls.note(manifest, &layer.to_string()) { '1' } else { '.' }).collect()
        };
        assert_eq!(note(image, "abc"), "1..");
        assert_eq!(note(other, "abd"), "1..");
        assert_eq!(note(image, "abc"), "1..", "pulled again");
        assert_eq!(note(image, "bc"), "1.", "pulled again, when the lowest layer was still there");
        for n in 0..PULLS {
            assert_eq!(note(Digest::of(&n.to_le_bytes()), "a"), "1");
        }
        assert_eq!(note(other, "x"), "1", "long ago");
    }

    fn config(socket: &std::path::Path, wait: Policy) -> Config {
        Config { prefetch_socket: Some(socket.to_owned()), wait, wait_ms: 300, ..Config::parse("").unwrap() }
    }

    fn labels(n: usize) -> Labels {
        let manifest = Digest::of(&n.to_le_bytes()).to_string();
        [(label::MANIFEST_DIGEST, manifest), (label::SNAPSHOT_REF, "sha256:x".to_owned())]
            .map(|(key, value)| (key.to_owned(), value))
            .into()
    }

    #[tokio::test]
    async fn a_hint_never_waits_and_none_goes_uncounted() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("s.sock");
        // Listens, never answers.
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let counters = Arc::new(Counters::default());
        let hints = Hints::start(&config(&socket, Policy::None), Arc::clone(&counters));
        // No await in between: the task cannot take any.
        for n in 0..QUEUE + 10 {
            hints.pull(&labels(n));
        }
        assert_eq!(counters.hints_dropped.get(), 10);
        drop(hints);
        while counters.hints_failed.get() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn no_daemon_costs_a_count() {
        let directory = tempfile::tempdir().unwrap();
        let counters = Arc::new(Counters::default());
        let hints = Hints::start(&config(&directory.path().join("none.sock"), Policy::None), Arc::clone(&counters));
        hints.pull(&labels(1));
        hints.start_of_container(ChainId(Digest::of(b"")), "key").await;
        while counters.hints_failed.get() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!((counters.hints_sent.get(), counters.hints_dropped.get()), (0, 0));
    }

    #[tokio::test]
    async fn a_wait_for_a_daemon_that_hangs_is_bounded_and_for_one_that_is_ill_there_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let chain_id = ChainId(Digest::of(b""));
        // Listens, never answers.
        let socket = directory.path().join("s.sock");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for policy in [Policy::Critical, Policy::Adaptive] {
            let counters = Arc::new(Counters::default());
            let hints = Hints::start(&config(&socket, policy), Arc::clone(&counters));
            hints.start_of_container(chain_id, "key").await;
            assert_eq!((counters.waits_failed.get(), counters.hints_failed.get()), (1, 1), "{policy:?}");
            let counters = Arc::new(Counters::default());
            let hints = Hints::start(&config(&directory.path().join("none.sock"), policy), Arc::clone(&counters));
            hints.start_of_container(chain_id, "key").await;
            assert_eq!((counters.waits_failed.get(), counters.hints_failed.get()), (1, 1), "{policy:?}");
            hints.start_of_container(chain_id, "key").await;
            while counters.hints_failed.get() < 2 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            assert_eq!(counters.waits_failed.get(), 1, "one that is ill is not waited for");
        }
    }
}
