//! Telling the prefetch daemon which image is about to be needed.
//!
//! Giving a hint only puts it into a bounded queue; a task of its own talks to the daemon, one hint at a time and each
//! within a deadline. A daemon that is not there, hangs or says no costs a hint, one log line when that begins, one when
//! it ends, and a counter each time.

use std::collections::{HashSet, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bundles::image::{ChainId, Digest};
use prefetcher::api;
use prefetcher::client::Client;
use tokio::sync::mpsc;

use crate::counters::Counters;
use crate::labels::Labels;

/// Hints that may wait. More than a node starts containers while the daemon takes its time for one.
const QUEUE: usize = 256;
/// How long the daemon may take to note a request. It answers before it does anything.
const DEADLINE: Duration = Duration::from_secs(1);
/// Pulls that are remembered, to give each a single hint.
const PULLS: usize = 64;

/// Gives hints. Without a daemon's socket it gives none.
#[derive(Debug)]
pub struct Hints {
    queue: Option<mpsc::Sender<api::PrefetchRequest>>,
    pulls: Mutex<Pulls>,
    counters: Arc<Counters>,
}

impl Hints {
    /// Starts the task. Must be called in a tokio runtime.
    pub fn start(socket: Option<&Path>, counters: Arc<Counters>) -> Self {
        let queue = socket.map(|socket| {
            let (sender, receiver) = mpsc::channel(QUEUE);
            let client = Client::connect_lazy(socket).with_deadline(DEADLINE);
            tokio::spawn(deliver(client, receiver, Arc::clone(&counters)));
            sender
        });
        Self { queue, pulls: Mutex::default(), counters }
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

    /// A container is about to be started from the image of this chain ID, in the snapshot called `key`.
    pub fn start_of_container(&self, chain_id: ChainId, key: &str) {
        self.give(api::Image { chain_id: chain_id.to_string(), ..api::Image::default() }, key);
    }

    /// `snapshot` is the name under which the daemon's log tells of it, too.
    fn give(&self, image: api::Image, snapshot: &str) {
        let (image, correlation_id) = (Some(image), snapshot.to_owned());
        let hint = api::PrefetchRequest { image, correlation_id, ..api::PrefetchRequest::default() };
        if let Some(queue) = &self.queue
            && let Err(error) = queue.try_send(hint)
        {
            tracing::debug!(%error, "hint thrown away");
            self.counters.hints_dropped.increment();
        }
    }
}

async fn deliver(client: Client, mut queue: mpsc::Receiver<api::PrefetchRequest>, counters: Arc<Counters>) {
    let mut is_ill = false;
    while let Some(hint) = queue.recv().await {
        let api::Image { chain_id, manifest_digest: manifest, .. } = hint.image.clone().unwrap_or_default();
        let snapshot = hint.correlation_id.clone();
        match client.ask(hint).await {
            Ok(request) => {
                counters.hints_sent.increment();
                tracing::info!(request, snapshot, chain_id, manifest, "prefetch asked for");
                if std::mem::take(&mut is_ill) {
                    tracing::info!("the prefetch daemon takes requests again");
                }
            }
            Err(error) => {
                counters.hints_failed.increment();
                if std::mem::replace(&mut is_ill, true) {
                    tracing::debug!(%error, snapshot, chain_id, manifest, "still no prefetch");
                } else {
                    tracing::warn!(%error, snapshot, chain_id, manifest, "no prefetch; containers start without it until it works");
                }
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
        let hints = Hints::start(Some(&socket), Arc::clone(&counters));
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
        let hints = Hints::start(Some(&directory.path().join("none.sock")), Arc::clone(&counters));
        hints.pull(&labels(1));
        hints.start_of_container(ChainId(Digest::of(b"")), "key");
        while counters.hints_failed.get() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!((counters.hints_sent.get(), counters.hints_dropped.get()), (0, 0));
    }
}
