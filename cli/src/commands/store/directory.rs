//! The store's directory, and the bundle in it that a user means.

use std::path::PathBuf;

use anyhow::{Result, bail};
use bundles::bundle::Bundle;
use bundles::image::ImageId;
use bundles::store::View;

/// The limit of a store for this program. The daemon enforces its own when it writes the next bundle.
pub(super) const NO_LIMIT: u64 = u64::MAX;

#[derive(clap::Args)]
#[command(next_help_heading = "Store")]
pub(super) struct StoreArgs {
    /// Directory of the daemon's store
    #[arg(long, value_name = "DIRECTORY", default_value = node::paths::PREFETCHD_STORE)]
    pub(super) store: PathBuf,
}

/// The only bundle that `name` may mean.
pub(super) fn find(view: &View, name: &str) -> Result<Bundle> {
    let mut found = Vec::new();
    view.each(|_, stored| {
        if let Ok(stored) = stored
            && is_name_of(&stored.bundle.image, name)
        {
            found.push(stored.bundle);
        }
    })?;
    match found.len() {
        0 => bail!("the store has no (undamaged) bundle {name:?}: see `cvmfs-prefetch store list`"),
        1 => Ok(found.remove(0)),
        count => bail!("{name:?} may be any of {count} bundles: give more digits of the chain ID"),
    }
}

/// Whether `name` is the image's reference, its chain ID or manifest digest, or at least 4 first digits of one of these.
pub(super) fn is_name_of(image: &ImageId, name: &str) -> bool {
    let digits = name.strip_prefix("sha256:").unwrap_or(name);
    let begins = |hex: String| digits.len() >= 4 && hex.starts_with(digits);
    image.reference == name || begins(image.chain_id.0.hex()) || image.manifest.is_some_and(|m| begins(m.hex()))
}
