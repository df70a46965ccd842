//! `store rm`: remove bundles, through the running daemon or from the directory of a stopped one.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Result, bail};
use api::proto::{Image, StoredBundle};
use bundles::store::{Store, View};

use super::directory::{NO_LIMIT, find};
use crate::daemon_args::DaemonArgs;
use crate::json::RemovedBundles;
use crate::output::Output;
use crate::request::{self, NO_BUNDLE};

const EXAMPLES: &str = "\
Examples:
  Have the daemon remove the bundle of an image:
    cvmfs-prefetch store rm registry.example.org/physics/root:6.32

  Remove the bundles that were not used for a month, while the daemon is stopped:
    cvmfs-prefetch store rm --store /var/lib/cvmfs-prefetch/prefetchd/store --unused-for 30d

Exit codes: 0 bundles were removed (with --store: or there was nothing to remove), 1 error, 2 wrong usage, 3 the daemon
has no bundle for the images
";

/// Remove the bundles of images from the store
///
/// Asks the running daemon to remove them. With --store, removes them from the directory instead; the daemon must be stopped.
/// Objects stay in the CVMFS cache. If the image's repository has a bundle, the next request brings it back.
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Rm {
    /// References, chain IDs or manifest digests of images, or at least 4 digits of an ID
    #[arg(value_name = "IMAGE", required_unless_present = "unused_for")]
    images: Vec<String>,
    /// Remove the bundles that were not used for this time, e.g. 30d
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, requires = "store")]
    unused_for: Option<Duration>,
    /// Directory of the store of a stopped daemon
    #[arg(long, value_name = "DIRECTORY")]
    store: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: DaemonArgs,
}

impl Rm {
    pub(crate) async fn run(self, out: &mut Output) -> Result<ExitCode> {
        let removed_bundles = match &self.store {
            Some(directory) => self.remove_from(directory)?,
            None => self.ask_daemon().await?,
        };
        let report = RemovedBundles { removed_bundles };
        out.report(self.json, &report, |out, report| writeln!(out, "{} removed", report.removed_bundles))?;
        let none_found = removed_bundles == 0 && self.store.is_none();
        Ok(if none_found { ExitCode::from(NO_BUNDLE) } else { ExitCode::SUCCESS })
    }

    async fn ask_daemon(&self) -> Result<u64> {
        let client = self.daemon.client();
        let mut removed = 0;
        for name in &self.images {
            let image = match digits_of(name) {
                Some(digits) => complete(&client.list().await?.bundles, digits)?,
                None => request::image(name),
            };
            removed += client.remove_bundles(image).await?;
        }
        Ok(removed)
    }

    fn remove_from(&self, directory: &Path) -> Result<u64> {
        let view = View::open(directory)?;
        let mut chain_ids = Vec::new();
        for image in &self.images {
            chain_ids.push(find(&view, image)?.image.chain_id);
        }
        drop(view);
        let store = Store::open(directory, NO_LIMIT)?;
        let mut removed = store.remove(&chain_ids)?;
        if let Some(since) = self.unused_for.and_then(|time| SystemTime::now().checked_sub(time)) {
            removed += store.retain(|_, used| used >= since)?;
        }
        Ok(removed as u64)
    }
}

/// The digits, if `name` is the beginning of a digest.
fn digits_of(name: &str) -> Option<&str> {
    let digits = name.strip_prefix("sha256:").unwrap_or(name);
    ((4..64).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(digits)
}

/// The image of the only bundle whose chain ID or manifest digest begins with `digits`.
fn complete(bundles: &[StoredBundle], digits: &str) -> Result<Image> {
    let begins = |digest: &str| digest.trim_start_matches("sha256:").starts_with(digits);
    let images = bundles.iter().filter_map(|bundle| bundle.image.clone());
    let mut found: Vec<_> = images.filter(|image| begins(&image.chain_id) || begins(&image.manifest_digest)).collect();
    match found.len() {
        0 => bail!("the store has no bundle {digits:?}: see `cvmfs-prefetch store list`"),
        1 => Ok(found.remove(0)),
        count => bail!("{digits:?} may be any of {count} bundles: give more digits of the chain ID"),
    }
}
