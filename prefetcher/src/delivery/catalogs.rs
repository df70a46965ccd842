//! Has CVMFS clients load the catalogs that a bundle names, so that a container need not wait for them.
//!
//! A client pins the catalogs that it has loaded: they are not evicted. When half of the quota is pinned, it can load no more, for
//! any repository. A bundle may name any directories, so only a limited number of catalogs is loaded for a request, only where
//! images are published, and none while much of the quota is pinned.

use bundles::path::RootPath;
use futures::future::join_all;
use node::mount::Mount;
use tracing::{Instrument, Span, debug, info};

use super::Delivery;
use crate::cache::Destination;
use crate::mount::page_cache::Preloader;

/// Maximum number of catalogs that are loaded for one request. An image needs three for each layer.
const MAX_CATALOGS: usize = 384;
/// Number of catalogs that are loaded between two queries of the pinned bytes.
const STEP: usize = 16;
/// Denominator of the share of the quota above which no catalog is loaded.
const PINNED_SHARE: u64 = 10;
/// The directories below which images are published.
const PUBLISHED: [&[u8]; 2] = [b".layers", b".flat"];

/// Catalogs of one repository to load.
struct Catalogs {
    mount: Mount,
    destination: Destination,
    /// Nothing is loaded if more bytes are pinned.
    max_pinned: Option<u64>,
    directories: Vec<RootPath>,
}

impl Delivery<'_> {
    /// Starts to load the catalogs of the bundle. Does not wait for them.
    pub(super) fn preload_catalogs(&self) {
        let catalogs = self.catalogs();
        let chosen: usize = catalogs.iter().map(|catalogs| catalogs.directories.len()).sum();
        let preloader = self.context.page_cache.clone();
        preloader.skip(self.bundle.catalogs.len() - chosen);
        let shutdown = self.context.shutdown.clone();
        let load = async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                _ = join_all(catalogs.iter().map(|catalogs| catalogs.load(&preloader))) => {
                    debug!(chosen, "the catalogs of the bundle are loaded or skipped");
                }
            }
        };
        tokio::spawn(load.instrument(Span::current()));
    }

    /// The catalogs that may be loaded.
    fn catalogs(&self) -> Vec<Catalogs> {
        let allowances = self.allowances.lock();
        let mut left = MAX_CATALOGS;
        let names = self.bundle.repositories.iter().enumerate();
        let catalogs = names.filter_map(|(number, name)| {
            let repository = self.context.repositories.get(name)?;
            let quota = allowances.get(&repository.destination_id).and_then(|allowance| allowance.free_space().quota);
            let of_repository = self.bundle.catalogs.iter().filter(|catalog| usize::from(catalog.repository) == number);
            let published = of_repository.map(|catalog| &catalog.mountpoint).filter(|path| is_published(path));
            let directories: Vec<RootPath> = published.take(left).cloned().collect();
            left -= directories.len();
            Some(Catalogs {
                mount: repository.mount.clone(),
                destination: repository.destination.clone(),
                max_pinned: quota.map(|quota| quota / PINNED_SHARE),
                directories,
            })
        });
        catalogs.filter(|catalogs| !catalogs.directories.is_empty()).collect()
    }
}

impl Catalogs {
    async fn load(&self, preloader: &Preloader) {
        for (number, step) in self.directories.chunks(STEP).enumerate() {
            let destination = self.destination.clone();
            let pinned = tokio::task::spawn_blocking(move || destination.pinned()).await.ok().flatten();
            if let (Some(pinned), Some(max)) = (pinned, self.max_pinned)
                && pinned > max
            {
                let left = self.directories.len() - number * STEP;
                info!(pinned, max, catalogs = left, "catalogs are not loaded: too much of the quota is pinned");
                return preloader.skip(left);
            }
            join_all(step.iter().map(|directory| preloader.preload_catalog(&self.mount, directory))).await;
        }
    }
}

/// Whether images are published below this directory, or at it.
fn is_published(directory: &RootPath) -> bool {
    directory.components().next().is_some_and(|first| PUBLISHED.contains(&first))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_catalogs_of_images_are_loaded() {
        for (path, expected) in [
            ("/.layers", true),
            ("/.layers/ab/abcd/layerfs", true),
            ("/.flat/ab/abcd", true),
            ("/.chains/ab/abcd", false),
            ("/.layersx/ab", false),
            ("/software/.layers", false),
            ("/", false),
        ] {
            assert_eq!(is_published(&RootPath::new(path).unwrap()), expected, "{path}");
        }
    }
}
