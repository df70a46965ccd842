//! `store import`: bundle files into the store.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use bundles::bundle::Bundle;
use bundles::store::Store;

use super::directory::{NO_LIMIT, StoreArgs};
use crate::json::{Image, ImportedBundles};
use crate::output::Output;
use crate::text;

const EXAMPLES: &str = "\
Examples:
  Put a bundle into the store of a node without a repository or registry that has it:
    systemctl stop cvmfs-prefetchd
    cvmfs-prefetch store import root.bundle
    systemctl start cvmfs-prefetchd
";

/// Put bundle files into the store; the daemon must be stopped
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Import {
    /// Bundles
    #[arg(required = true)]
    bundles: Vec<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    directory: StoreArgs,
}

impl Import {
    pub(crate) async fn run(self, out: &mut Output) -> Result<ExitCode> {
        let bundles = self.bundles.iter().map(|path| Bundle::read(path)).collect::<Result<Vec<_>, _>>()?;
        let store = Store::open(&self.directory.store, NO_LIMIT)?;
        bundles.iter().try_for_each(|bundle| store.put(bundle, None).map(drop))?;
        let report = ImportedBundles { images: bundles.iter().map(|bundle| Image::from(&bundle.image)).collect() };
        out.report(self.json, &report, |out, report| {
            let line = |image: &Image| format!("imported {} {}", image.chain_id, text::line(&image.reference));
            report.images.iter().try_for_each(|image| writeln!(out, "{}", line(image)))
        })?;
        Ok(ExitCode::SUCCESS)
    }
}
