//! Picks up new bundles of images that are used on this node, when their repository has a new revision.
//!
//! The revision of every repository is read through its mount at an interval. When it has changed, the bundles of the images that were
//! requested on this node are looked up again, and images with another bundle are prefetched with low priority, after a random
//! pause, because all nodes see the new revision within minutes.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use node::mount::Mount;
use tracing::{debug, info};

use super::Daemon;
use crate::config::Config;
use crate::request::spec::PrefetchSpec;
use crate::source::Lookup;

/// A mount that does not respond within this is queried again the next time.
const TIMEOUT: Duration = Duration::from_secs(5);

impl Daemon {
    /// Looks up new bundles of images that were requested, as often as configured, until the daemon shuts down.
    pub(super) fn watch_revisions(self: &Arc<Self>, config: &Config) {
        if !config.revision_check_interval.is_zero() {
            self.tasks.spawn(watch(self.clone(), config.revision_check_interval));
        }
    }
}

/// Looks for new revisions every `interval` until the daemon shuts down.
async fn watch(daemon: Arc<Daemon>, interval: Duration) {
    let mounts: Vec<Mount> = daemon.known_repositories().iter().map(|repository| repository.mount.clone()).collect();
    let mut seen: HashMap<PathBuf, String> = HashMap::new();
    loop {
        let mut renewed = false;
        for mount in &mounts {
            let Some(revision) = revision(mount).await else { continue };
            let before = seen.insert(mount.path().to_owned(), revision.clone());
            if before.as_ref().is_some_and(|before| *before != revision) {
                info!(mount = %mount.path().display(), revision, "new revision of a repository");
                renewed = true;
            }
        }
        if renewed && pause(&daemon, interval.mul_f64(rand::random_range(0.0..1.0))).await {
            renew(&daemon).await;
        }
        if !pause(&daemon, interval).await {
            return;
        }
    }
}

/// Waits for `time`; false if the daemon shuts down meanwhile.
async fn pause(daemon: &Daemon, time: Duration) -> bool {
    tokio::time::timeout(time, daemon.shutdown.cancelled()).await.is_err()
}

async fn renew(daemon: &Arc<Daemon>) {
    for query in daemon.requests.images() {
        match daemon.sources.find(&query).await {
            Lookup::Found(found) if !found.is_stored() => {
                info!(source = found.source, reference = query.reference, "new bundle for an image used on this node");
                if let Err(error) = daemon.prefetch(PrefetchSpec::renewal(query)) {
                    debug!(%error, "request for the new bundle refused");
                }
            }
            _ => {}
        }
    }
}

/// The revision of the repository; none if nothing is mounted, or the mount does not respond.
async fn revision(mount: &Mount) -> Option<String> {
    let value = mount.run(TIMEOUT, |call| xattr::get(call.root(), "user.revision")).await;
    String::from_utf8(value.ok()??).ok()
}
