//! `inspect`: what is in a bundle or a trace.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use bundles::bundle::Bundle;
use bundles::trace::{self, Trace};

use crate::trace::show;
use crate::{output, text};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A bundle or a trace
    file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let magic = {
        let mut start = [0; 4];
        let mut file = std::fs::File::open(&args.file).with_context(|| args.file.display().to_string())?;
        // A shorter file is told as what it is by the reader below.
        let _ = io::Read::read_exact(&mut file, &mut start);
        start
    };
    if magic == trace::FORMAT.magic {
        return show::show(&Trace::read(&args.file)?, args.json);
    }
    let bundle = Bundle::read(&args.file)?;
    output::print(|out| if args.json { output::json(out, &bundle) } else { print(out, &bundle) })
}

fn print(out: &mut impl Write, bundle: &Bundle) -> io::Result<()> {
    output::image(out, &bundle.image)?;
    writeln!(out, "repository  {}", bundle.repositories.join(", "))?;
    writeln!(out, "traces      {}, {} of them incomplete", bundle.traces, bundle.incomplete_traces)?;
    let (stored, raw) = bundle.bytes();
    let (count, stored, raw) = (bundle.objects.len(), text::bytes(stored), text::bytes(raw));
    writeln!(out, "objects     {count}, {stored} to transfer, {raw} in the cache")?;
    for (count, what) in bundle.skipped.by_cause().iter().filter(|(count, _)| *count > 0) {
        writeln!(out, "left out    {count} {what}")?;
    }
    writeln!(out, "\n  first use   used in    transfer         raw  kind     object and path")?;
    for object in &bundle.objects {
        writeln!(
            out,
            "{:>11} {:>9} {:>11} {:>11}  {:<7}  {} {}",
            text::microseconds(object.need.first_us),
            object.need.used_in,
            text::bytes(object.stored_size),
            text::bytes(object.raw_size),
            format!("{:?}", object.kind).to_lowercase(),
            object.hash,
            text::path(&object.path)
        )?;
    }
    Ok(())
}
