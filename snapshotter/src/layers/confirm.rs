//! Comparing the whiteouts that a bundle lists with the layer itself, after the layer is handed out.
//!
//! Who may publish bundles may not be who publishes layers, and a builder can be wrong. So the layer is listed once, some time after the
//! pull, when its catalogs are in the cache and nobody waits for it. What it really has replaces what the bundle listed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bundles::image::Digest;

use super::{Repository, probe};
use crate::metrics::BundleScan;
use crate::whiteouts::{LayerScan, walk};

/// Time that listing a layer may take. The largest layers have some 100,000 directories.
const TIMEOUT: Duration = Duration::from_secs(600);

impl Repository {
    /// Lists the layer in the background and compares. One layer at a time, so that containers get the mount's attention.
    pub(super) fn confirm(self: &Arc<Self>, digest: Digest) {
        let repository = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(repository.confirm_after).await;
            let Ok(_one_at_a_time) = repository.confirming.acquire().await else { return };
            let listed = probe::find_layer(&repository.mount, digest, TIMEOUT, walk::walk).await;
            match listed {
                Ok(Some(listed)) => repository.compare(&digest, listed),
                // The next start of the program tries again.
                Ok(None) => tracing::debug!(%digest, "a layer has vanished before its whiteouts were confirmed"),
                Err(error) => tracing::debug!(%digest, %error, "the whiteouts of a layer cannot be confirmed"),
            }
        });
    }

    fn compare(&self, digest: &Digest, listed: LayerScan) {
        let stored = match self.store.layer_scan(&self.name, digest) {
            Ok(Some(stored)) => stored,
            // Its last snapshot was removed.
            Ok(None) => return,
            Err(error) => return tracing::warn!(%error, "cannot read the stored scan of a layer"),
        };
        let is_same = stored.whiteouts.delete_the_same_as(&listed.whiteouts);
        self.metrics.bundle_scans.increment(if is_same { BundleScan::Confirmed } else { BundleScan::Wrong });
        if !is_same {
            self.distrusts_bundles.store(true, Ordering::Release);
            tracing::error!(
                repository = self.name, %digest,
                "the bundle lists other whiteouts than the layer has, so containers with this layer may show deleted files or miss \
                 some; remove the images with this layer, pull them again, and have the bundle built anew"
            );
        }
        let record = LayerScan { diff_id: stored.diff_id, ..listed };
        if let Err(error) = self.store.put_layer_scan(&self.name, digest, &record) {
            tracing::warn!(%error, "cannot store the scan of a layer");
        }
    }
}
