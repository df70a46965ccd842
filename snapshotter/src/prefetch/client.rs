//! Requests to the prefetch daemon for the images that this node is about to run.
//!
//! A request is put into a bounded queue, which never waits; one task sends the queue to the daemon, each request within a
//! timeout. A daemon that is down, hangs or refuses costs one lost request, one counter, and one log line when failures begin
//! and one when they end.
//!
//! If the configuration lets a container wait ([`super::wait_policy`]), its Prepare sends the request itself and waits, within
//! `max_wait` in total. While the daemon is failing, its request goes into the queue and nothing waits.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use api::client::{Client, ClientError};
use api::proto;
use bundles::image::{ChainId, Digest};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;

use super::wait_policy;
use crate::config::{Config, WaitPolicy};
use crate::metrics::{Label, Metrics, PrefetchOutcome, WaitOutcome};
use crate::snapshots::labels::LayerLabels;

/// Length of the queue: more than the containers that a node starts while the daemon accepts one request.
const QUEUE: usize = 256;
/// Timeout of a request. The daemon answers before it does any work.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Interval of the daemon's reports on a request that a container waits for.
const REPORT_INTERVAL: Duration = Duration::from_millis(10);
/// Number of pulls that are remembered, to send one request for each.
const PULLS: usize = 64;

/// Sends prefetch requests. Without `prefetch_socket` it sends none.
#[derive(Debug)]
pub struct PrefetchClient {
    daemon: Option<Daemon>,
    pulls: Mutex<Pulls>,
    wait: WaitPolicy,
    max_wait: Duration,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct Daemon {
    client: Client,
    queue: mpsc::Sender<proto::PrefetchRequest>,
    health: Arc<Health>,
}

/// Whether the last request failed.
#[derive(Debug, Default)]
struct Health {
    is_failing: AtomicBool,
}

impl PrefetchClient {
    /// Starts the task that sends the queue. Must be called in a tokio runtime.
    pub fn start(config: &Config, metrics: Arc<Metrics>) -> Self {
        let daemon = config.prefetch_socket.as_deref().map(|socket| {
            let (queue, receiver) = mpsc::channel(QUEUE);
            let client = Client::connect_lazy(socket).with_timeout(TIMEOUT);
            let health = Arc::new(Health::default());
            tokio::spawn(send_queue(client.clone(), receiver, Arc::clone(&health), Arc::clone(&metrics)));
            Daemon { client, queue, health }
        });
        Self { daemon, pulls: Mutex::default(), wait: config.wait, max_wait: config.max_wait, metrics }
    }

    /// Requests the image that the layer belongs to, once per pull.
    pub fn layer_pulled(&self, layer: &LayerLabels<'_>) {
        let Some(manifest) = layer.manifest else { return };
        if self.pulls.lock().begins_pull(manifest, layer.chain_id) {
            let image = proto::Image {
                manifest_digest: manifest.to_string(),
                reference: layer.reference.to_owned(),
                ..proto::Image::default()
            };
            self.enqueue(request(image, layer.chain_id));
        }
    }

    /// Requests the image with this chain ID for the container with the snapshot `key`. Returns when the container may
    /// start.
    pub async fn container_starts(&self, chain_id: ChainId, key: &str) {
        let Some(daemon) = &self.daemon else { return };
        let request = request(image_of_chain(chain_id.to_string()), key);
        if self.wait == WaitPolicy::None || daemon.health.is_failing() {
            return self.enqueue(request);
        }
        let start = Instant::now();
        let outcome = self.send_and_wait(daemon, request).await;
        self.metrics.waits.increment(outcome);
        let waited_ms = start.elapsed().as_millis() as u64;
        tracing::info!(snapshot = key, %chain_id, outcome = outcome.value(), waited_ms, "waited for the prefetch");
    }

    /// Requests an image that is on the node when the snapshotter starts.
    pub fn image_present(&self, chain_id: &str) {
        self.enqueue(request(image_of_chain(chain_id.to_owned()), chain_id));
    }

    fn enqueue(&self, request: proto::PrefetchRequest) {
        if let Some(daemon) = &self.daemon
            && let Err(error) = daemon.queue.try_send(request)
        {
            tracing::debug!(%error, "prefetch request dropped");
            self.metrics.prefetch_requests.increment(PrefetchOutcome::Dropped);
        }
    }

    async fn send_and_wait(&self, daemon: &Daemon, request: proto::PrefetchRequest) -> WaitOutcome {
        let deadline = tokio::time::Instant::now() + self.max_wait;
        let client = daemon.client.clone().with_timeout(TIMEOUT.min(self.max_wait));
        match client.submit(request).await {
            Ok(id) => {
                self.metrics.prefetch_requests.increment(PrefetchOutcome::Sent);
                let wait = wait(&client, self.wait, id);
                tokio::time::timeout_at(deadline, wait).await.unwrap_or(WaitOutcome::Timeout)
            }
            Err(error) => {
                self.metrics.prefetch_requests.increment(PrefetchOutcome::Failed);
                daemon.health.note_failure(&error);
                WaitOutcome::Failed
            }
        }
    }
}

impl Health {
    fn is_failing(&self) -> bool {
        self.is_failing.load(Ordering::Relaxed)
    }

    fn note_failure(&self, error: &ClientError) {
        if self.is_failing.swap(true, Ordering::Relaxed) {
            tracing::debug!(%error, "prefetch request failed again");
        } else {
            tracing::warn!(%error, "prefetch request failed; containers start without prefetch until requests succeed");
        }
    }

    fn note_success(&self) {
        if self.is_failing.swap(false, Ordering::Relaxed) {
            tracing::info!("prefetch requests succeed again");
        }
    }
}

fn image_of_chain(chain_id: String) -> proto::Image {
    proto::Image { chain_id, ..proto::Image::default() }
}

/// The daemon's log shows `snapshot` with the request, so both logs can be compared.
fn request(image: proto::Image, snapshot: &str) -> proto::PrefetchRequest {
    proto::PrefetchRequest {
        image: Some(image),
        correlation_id: snapshot.to_owned(),
        ..proto::PrefetchRequest::default()
    }
}

/// Follows a request until the policy ends the wait. The caller limits the time.
async fn wait(client: &Client, policy: WaitPolicy, request: u64) -> WaitOutcome {
    let follow = async {
        let mut statuses = client.watch(request, REPORT_INTERVAL).await?;
        while let Some(status) = statuses.next().await {
            if let Some(outcome) = wait_policy::outcome(policy, &status?) {
                return Ok(outcome);
            }
        }
        Ok::<_, ClientError>(WaitOutcome::Unavailable)
    };
    follow.await.unwrap_or_else(|error| {
        tracing::debug!(%error, request, "the daemon stopped reporting on a prefetch request");
        WaitOutcome::Failed
    })
}

async fn send_queue(
    client: Client,
    mut queue: mpsc::Receiver<proto::PrefetchRequest>,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
) {
    while let Some(request) = queue.recv().await {
        let proto::Image { chain_id, manifest_digest: manifest, .. } = request.image.clone().unwrap_or_default();
        let snapshot = request.correlation_id.clone();
        match client.submit(request).await {
            Ok(request) => {
                metrics.prefetch_requests.increment(PrefetchOutcome::Sent);
                tracing::info!(request, snapshot, chain_id, manifest, "prefetch requested");
                health.note_success();
            }
            Err(error) => {
                metrics.prefetch_requests.increment(PrefetchOutcome::Failed);
                tracing::debug!(snapshot, chain_id, manifest, "prefetch request lost");
                health.note_failure(&error);
            }
        }
    }
}

/// The layers of each image that containerd prepared lately. containerd prepares each layer once per pull, so a layer that
/// was prepared before begins another pull.
///
/// Not a cache of the crate moka: nothing expires by time, and the oldest pull must be the one that is forgotten.
#[derive(Debug, Default)]
struct Pulls(VecDeque<(Digest, HashSet<String>)>);

impl Pulls {
    /// Notes a layer of an image. Whether it begins a pull.
    fn begins_pull(&mut self, manifest: Digest, layer: &str) -> bool {
        if let Some((_, layers)) = self.0.iter_mut().find(|(known, _)| *known == manifest) {
            let begins = layers.contains(layer);
            if begins {
                layers.clear();
            }
            layers.insert(layer.to_owned());
            return begins;
        }
        self.0.truncate(PULLS - 1);
        self.0.push_front((manifest, HashSet::from([layer.to_owned()])));
        true
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::net::UnixListener;
    use std::path::Path;

    use super::*;

    fn chain_id() -> ChainId {
        ChainId(Digest::from_bytes([0; 32]))
    }

    #[test]
    fn each_pull_of_an_image_sends_one_request() {
        let image = Digest::sha256(b"image");
        let other = Digest::sha256(b"other");
        let mut pulls = Pulls::default();
        let mut note = |manifest, layers: &str| -> String {
            let mark = |begins| if begins { '1' } else { '.' };
            layers.chars().map(|layer| mark(pulls.begins_pull(manifest, &layer.to_string()))).collect()
        };
        assert_eq!(note(image, "abc"), "1..");
        assert_eq!(note(other, "abd"), "1..");
        assert_eq!(note(image, "abc"), "1..", "pulled again");
        assert_eq!(note(image, "bc"), "1.", "pulled again while the lowest layer was still there");
        for n in 0..PULLS {
            assert_eq!(note(Digest::sha256(&n.to_le_bytes()), "a"), "1");
        }
        assert_eq!(note(other, "x"), "1", "forgotten");
    }

    struct Started {
        client: PrefetchClient,
        metrics: Arc<Metrics>,
    }

    impl Started {
        fn new(socket: &Path, wait: WaitPolicy) -> Self {
            let max_wait = Duration::from_millis(300);
            let config = Config { prefetch_socket: Some(socket.to_owned()), wait, max_wait, ..Config::default() };
            let metrics = Arc::new(Metrics::new());
            Self { client: PrefetchClient::start(&config, Arc::clone(&metrics)), metrics }
        }

        fn pull(&self, image: usize) {
            let manifest = Some(Digest::sha256(&image.to_le_bytes()));
            self.client.layer_pulled(&LayerLabels { chain_id: "sha256:x", digest: None, manifest, reference: "" });
        }

        fn count(&self, outcome: PrefetchOutcome) -> u64 {
            self.metrics.prefetch_requests.get(outcome)
        }

        async fn until_failed(&self, count: u64) {
            while self.count(PrefetchOutcome::Failed) < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }

    #[tokio::test]
    async fn a_full_queue_drops_requests_and_counts_them() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("s.sock");
        // Accepts connections, never answers.
        let _listener = UnixListener::bind(&socket).unwrap();
        let started = Started::new(&socket, WaitPolicy::None);
        // No await in between, so the task cannot take any.
        for image in 0..QUEUE + 10 {
            started.pull(image);
        }
        assert_eq!(started.count(PrefetchOutcome::Dropped), 10);
        started.until_failed(1).await;
    }

    #[tokio::test]
    async fn requests_without_a_daemon_are_counted_as_failed() {
        let directory = tempfile::tempdir().unwrap();
        let started = Started::new(&directory.path().join("none.sock"), WaitPolicy::None);
        started.pull(1);
        started.client.container_starts(chain_id(), "key").await;
        started.until_failed(2).await;
        assert_eq!([PrefetchOutcome::Sent, PrefetchOutcome::Dropped].map(|outcome| started.count(outcome)), [0, 0]);
    }

    #[tokio::test]
    async fn a_wait_for_a_hung_daemon_ends_after_max_wait() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("s.sock");
        let _listener = UnixListener::bind(&socket).unwrap();
        for policy in [WaitPolicy::Critical, WaitPolicy::Adaptive] {
            let started = Started::new(&socket, policy);
            started.client.container_starts(chain_id(), "key").await;
            assert_eq!(started.metrics.waits.get(WaitOutcome::Failed), 1, "{policy:?}");
            assert_eq!(started.count(PrefetchOutcome::Failed), 1, "{policy:?}");
        }
    }

    #[tokio::test]
    async fn nothing_waits_for_a_daemon_that_failed_before() {
        let directory = tempfile::tempdir().unwrap();
        for policy in [WaitPolicy::Critical, WaitPolicy::Adaptive] {
            let started = Started::new(&directory.path().join("none.sock"), policy);
            for _ in 0..2 {
                started.client.container_starts(chain_id(), "key").await;
            }
            started.until_failed(2).await;
            assert_eq!(started.metrics.waits.get(WaitOutcome::Failed), 1, "{policy:?}");
        }
    }
}
