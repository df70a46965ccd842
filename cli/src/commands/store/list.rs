//! `store list`: the bundles in the store.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Result;
use bundles::store::View;

use super::directory::StoreArgs;
use crate::failure;
use crate::json::{DamagedBundle, StoredBundle, StoredBundles};
use crate::output::Output;
use crate::text;

const EXAMPLES: &str = "\
Examples:
  List the bundles:
    cvmfs-prefetch store list

  List the images whose bundles are damaged:
    cvmfs-prefetch store list --json | jq -r '.damaged[].chain_id'
";

/// List the bundles in the store
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct List {
    /// Print the list as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    directory: StoreArgs,
}

impl List {
    pub(crate) async fn run(self, out: &mut Output) -> Result<ExitCode> {
        let mut list = StoredBundles::default();
        View::open(&self.directory.store)?.each(|chain_id, found| match found {
            Ok(stored) => list.bundles.push(StoredBundle {
                image: (&stored.bundle.image).into(),
                repository: stored.bundle.repository().to_owned(),
                objects: stored.bundle.objects.len(),
                stored_bytes: stored.bundle.bytes().0,
                bundle_bytes: stored.facts.size,
                last_use: text::time(stored.facts.used),
                mount: stored.facts.origin.map(|origin| origin.name()),
            }),
            Err(error) => list
                .damaged
                .push(DamagedBundle { chain_id: chain_id.to_string(), error: failure::causes(&error.into()) }),
        })?;
        out.report(self.json, &list, print)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn print(out: &mut impl Write, list: &StoredBundles) -> io::Result<()> {
    writeln!(out, "{:<71}  objects    transfer        size  last use              from, image", "chain ID")?;
    for bundle in &list.bundles {
        writeln!(
            out,
            "{}  {:>7} {:>11} {:>11}  {:<20}  {} {}",
            bundle.image.chain_id,
            bundle.objects,
            text::bytes(bundle.stored_bytes),
            text::bytes(bundle.bundle_bytes),
            bundle.last_use,
            text::line(bundle.mount.as_deref().unwrap_or("(imported)")),
            text::line(&bundle.image.reference)
        )?;
    }
    for DamagedBundle { chain_id, error } in &list.damaged {
        writeln!(out, "{chain_id}  damaged: {}", text::line(error))?;
    }
    Ok(())
}
