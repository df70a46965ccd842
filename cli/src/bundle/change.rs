//! `bundle rm` and `bundle import`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use bundles::bundle::Bundle;
use bundles::store::{Store, View};

use super::{Directory, find};

/// The limit of a store is the daemon's, which keeps to it when it puts the next bundle.
const NO_LIMIT: u64 = u64::MAX;

#[derive(clap::Args)]
pub(crate) struct RmArgs {
    /// Images' chain IDs or manifest digests, some first digits of these, or references
    #[arg(required_unless_present = "unused_for")]
    bundles: Vec<String>,
    /// Remove the bundles that were not used for so long, e.g. 30d
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    unused_for: Option<Duration>,
    #[command(flatten)]
    directory: Directory,
}

pub(super) fn rm(args: &RmArgs) -> Result<ExitCode> {
    let view = View::open(&args.directory.store)?;
    let mut chains = Vec::new();
    for name in &args.bundles {
        chains.push(find(&view, name)?.image.chain_id);
    }
    drop(view);
    let store = Store::open(&args.directory.store, NO_LIMIT)?;
    let mut removed = store.remove(&chains)?;
    if let Some(since) = args.unused_for.and_then(|time| SystemTime::now().checked_sub(time)) {
        removed += store.retain(|_, used| used >= since)?;
    }
    println!("{removed} removed");
    Ok(ExitCode::SUCCESS)
}

#[derive(clap::Args)]
pub(crate) struct ImportArgs {
    /// Bundles
    #[arg(required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    directory: Directory,
}

pub(super) fn import(args: &ImportArgs) -> Result<ExitCode> {
    let bundles = args.files.iter().map(|path| Bundle::read(path)).collect::<Result<Vec<_>, _>>()?;
    let store = Store::open(&args.directory.store, NO_LIMIT)?;
    bundles.iter().try_for_each(|bundle| store.put(bundle, None))?;
    Ok(ExitCode::SUCCESS)
}
