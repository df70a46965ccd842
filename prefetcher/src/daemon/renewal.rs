//! Picks up new bundles of images that are used on this node, when their repository has a new revision.
//!
//! The revision of every repository that has bundles is read through its mount at an interval. When it has changed, the bundles of
//! the images that were requested on this node are looked up again, and images with another bundle are prefetched with low
//! priority, after a random pause, because all nodes see the new revision within minutes. Other repositories are left alone, so
//! that an automounter can unmount them. Registries are not asked: a revision
//! says nothing about them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use node::mount::Mount;
use tracing::{debug, info};

use super::Daemon;
use crate::config::Config;
use crate::request::spec::PrefetchSpec;

/// A mount that does not respond within this is skipped until it has responded.
const TIMEOUT: Duration = Duration::from_secs(5);

impl Daemon {
    /// Looks up new bundles of images that were requested, as often as configured, until the daemon shuts down.
    pub(super) fn watch_revisions(self: &Arc<Self>, config: &Config) {
        if !config.revision_check_interval.is_zero() {
            let (daemon, interval) = (self.clone(), config.revision_check_interval);
            self.tasks.spawn(async move {
                tokio::select! {
                    () = daemon.shutdown.cancelled() => {}
                    () = watch(&daemon, interval) => {}
                }
            });
        }
    }
}

/// Looks for new revisions every `interval`.
async fn watch(daemon: &Arc<Daemon>, interval: Duration) {
    loop {
        let mut renewed = false;
        // At once: one that hangs does not delay the others.
        for (path, revision) in join_all(daemon.sources.mounts_with_bundles().iter().map(revision)).await {
            let Some(revision) = revision else { continue };
            if daemon.sources.is_new_revision(&path, &revision) {
                info!(mount = %path.display(), revision, "new revision of a repository");
                renewed = true;
            }
        }
        if renewed {
            tokio::time::sleep(interval.mul_f64(rand::random_range(0.0..1.0))).await;
            renew(daemon).await;
        }
        tokio::time::sleep(interval).await;
    }
}

async fn renew(daemon: &Arc<Daemon>) {
    for query in daemon.requests.images() {
        let Some(found) = daemon.sources.find_newer(&query).await else { continue };
        info!(source = found.source, reference = query.reference, "new bundle for an image used on this node");
        // The request reads it again, from the store.
        drop(found);
        if let Err(error) = daemon.prefetch(PrefetchSpec::renewal(query)) {
            debug!(%error, "request for the new bundle refused");
        }
    }
}

/// The mount point and the revision of the repository; no revision if nothing is mounted, or the mount does not respond.
async fn revision(mount: &Mount) -> (PathBuf, Option<String>) {
    let path = mount.path().to_owned();
    match mount.try_run(TIMEOUT, |call| xattr::get(call.root(), "user.revision")).await {
        Ok(value) => (path, value.and_then(|value| String::from_utf8(value).ok())),
        Err(error) => {
            debug!(%error, "revision not read");
            (path, None)
        }
    }
}
