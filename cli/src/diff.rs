//! `diff`: what is different between two bundles.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use bundles::bundle::Bundle;
use bundles::report::{Change, Diff, Files, Growth};

use crate::{output, text};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The bundle before
    old: PathBuf,
    /// The bundle after
    new: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let (old, new) = (Bundle::read(&args.old)?, Bundle::read(&args.new)?);
    let diff = Diff::between(&Files::from_bundle(&old), &Files::from_bundle(&new));
    output::print(|out| if args.json { output::json(out, &diff) } else { print(out, &diff) })
}

fn print(out: &mut impl Write, diff: &Diff) -> io::Result<()> {
    let (old, new) = (diff.old, diff.new);
    writeln!(out, "          old         new")?;
    writeln!(out, "{:>13} {:>11}  files, {} as before", old.files, new.files, diff.unchanged)?;
    writeln!(out, "{:>13} {:>11}  objects", old.objects, new.objects)?;
    let growth = Growth { old: old.bytes, new: new.bytes };
    writeln!(out, "{:>13} {:>11}  in the cache, {growth}", text::bytes(old.bytes), text::bytes(new.bytes))?;
    for (title, changes) in [
        ("came", &diff.added),
        ("went", &diff.removed),
        ("grew", &diff.grew),
        ("shrank", &diff.shrank),
        ("changed", &diff.changed),
        ("by directory", &diff.by_directory),
    ] {
        if !changes.is_empty() {
            writeln!(out, "\n        old         new  difference  {title} ({})", changes.len())?;
        }
        for change in changes {
            let Change { path, old, new } = change;
            let (old, new, difference) =
                (text::bytes(old.bytes), text::bytes(new.bytes), text::difference(change.bytes()));
            writeln!(out, "{old:>11} {new:>11} {difference:>11}  {}", text::path(path))?;
        }
    }
    Ok(())
}
