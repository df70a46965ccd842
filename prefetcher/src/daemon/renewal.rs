//! New bundles for images that are used here: picked up when their repository has a new revision.
//!
//! A repository is asked for its revision every now and then, through its mount. When that has changed, the images that were
//! asked for on this node are looked for again, and those that have another bundle now are prefetched with low priority,
//! after a random pause, for all nodes see the new revision within minutes.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use node::mount::Mount;
use tracing::{debug, info};

use super::Daemon;
use crate::config::Config;
use crate::request::spec::PrefetchSpec;
use crate::source::Search;

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
                info!(mount = %mount.path().display(), revision, "the repository has a new revision");
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

/// False if the daemon stops meanwhile.
async fn pause(daemon: &Daemon, time: Duration) -> bool {
    tokio::time::timeout(time, daemon.shutdown.cancelled()).await.is_err()
}

async fn renew(daemon: &Arc<Daemon>) {
    for wanted in daemon.requests.images() {
        match daemon.sources.find(&wanted).await {
            Search::Found(found) if !found.is_stored() => {
                info!(place = found.place, reference = wanted.reference, "another bundle for an image used here");
                if let Err(error) = daemon.prefetch(PrefetchSpec::renewal(wanted)) {
                    debug!(%error, "not prefetched again");
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
