//! `bundle diff`: what differs between two bundles.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use bundles::bundle::Bundle;
use bundles::report::{self, Files, Growth};

use crate::json::BundleDiff;
use crate::output::Output;
use crate::text;

const EXAMPLES: &str = "\
Examples:
  Compare two bundles by file and directory:
    cvmfs-prefetch bundle diff old.bundle new.bundle
";

/// Compare two bundles: files added, removed, grown, shrunk and changed
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Diff {
    /// Old bundle
    old: PathBuf,
    /// New bundle
    new: PathBuf,
    /// Print the differences as JSON
    #[arg(long)]
    json: bool,
}

impl Diff {
    pub(crate) async fn run(self, out: &mut Output) -> Result<ExitCode> {
        let (old, new) = (Bundle::read(&self.old)?, Bundle::read(&self.new)?);
        let diff = report::Diff::between(&Files::from_bundle(&old), &Files::from_bundle(&new));
        out.report(self.json, &BundleDiff::from(&diff), print)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn print(out: &mut impl Write, diff: &BundleDiff) -> io::Result<()> {
    let (old, new) = (diff.old, diff.new);
    writeln!(out, "          old         new")?;
    writeln!(out, "{:>13} {:>11}  files, {} unchanged", old.files, new.files, diff.unchanged_files)?;
    writeln!(out, "{:>13} {:>11}  objects", old.objects, new.objects)?;
    let growth = Growth { old: old.bytes, new: new.bytes };
    writeln!(out, "{:>13} {:>11}  in the cache, {growth}", text::bytes(old.bytes), text::bytes(new.bytes))?;
    for (title, changes) in [
        ("added", &diff.added),
        ("removed", &diff.removed),
        ("grown", &diff.grown),
        ("shrunk", &diff.shrunk),
        ("changed", &diff.changed),
        ("by directory", &diff.by_directory),
    ] {
        if !changes.is_empty() {
            writeln!(out, "\n        old         new  difference  {title} ({})", changes.len())?;
        }
        for change in changes {
            let [old, new] = [change.old, change.new].map(|totals| text::bytes(totals.bytes));
            let difference = text::difference(change.difference());
            writeln!(out, "{old:>11} {new:>11} {difference:>11}  {}", text::line(&change.path))?;
        }
    }
    Ok(())
}
