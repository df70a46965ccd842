//! `build`: traces and image in, bundle out.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use bundles::bundle::Bundle;

use crate::making::{self, Ready};
use crate::text;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Traces, as `record` writes them
    traces: Vec<PathBuf>,
    /// A trace of this kind of work, whatever it says itself; may be given several times
    #[arg(long, value_name = "NAME=TRACE", value_parser = named)]
    profile: Vec<(String, PathBuf)>,
    #[command(flatten)]
    making: making::Args,
    /// Where to write the bundle
    #[arg(long, short, value_name = "FILE", default_value = "image.bundle")]
    output: PathBuf,
}

fn named(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, trace)) if !name.is_empty() && !trace.is_empty() => Ok((name.into(), trace.into())),
        _ => Err("expected a name and a trace, as in fit=fit.cpft".into()),
    }
}

pub(crate) async fn run(args: Args) -> Result<ExitCode> {
    let (uses, traced) = making::read(&args.traces, &args.profile)?;
    let Ready { image, tree, mut repositories, policy } = args.making.ready(&traced).await?;
    let bundle = bundles::builder::build(&image, &tree, &uses, &mut repositories, &policy).await?;
    bundle.write(&args.output)?;
    report(&bundle, &args.output);
    Ok(ExitCode::SUCCESS)
}

/// Says what became of the traces, or of the bundle that this one was rebased from.
pub(crate) fn report(bundle: &Bundle, output: &Path) {
    let (stored, raw) = bundle.bytes();
    println!(
        "{}: {} objects, {} to transfer, {} in the cache, from {} trace(s)",
        output.display(),
        bundle.objects.len(),
        text::bytes(stored),
        text::bytes(raw),
        bundle.traces
    );
    if let Some(rebased) = &bundle.rebased {
        let (same, changed, gone) = (rebased.unchanged, rebased.changed, rebased.removed);
        let from = &rebased.from.reference;
        println!("rebased from {from}: {same} objects as they were, {changed} with new content, {gone} are gone");
    }
    for (count, what) in bundle.skipped.by_cause().iter().filter(|(count, _)| *count > 0) {
        println!("left out: {count} {what}");
    }
    if bundle.incomplete_traces > 0 {
        println!("warning: {} of the traces are incomplete, so the bundle may be", bundle.incomplete_traces);
    }
}
