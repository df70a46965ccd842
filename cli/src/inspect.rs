//! `inspect`: what is in a bundle or a trace.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use bundles::bundle::Bundle;
use bundles::image::ImageId;
use bundles::trace::{self, Trace};

use crate::text;

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
    let mut out = io::BufWriter::new(io::stdout().lock());
    let printed = if magic == trace::FORMAT.magic {
        let trace = Trace::read(&args.file)?;
        if args.json { json(&mut out, &trace) } else { print_trace(&mut out, &trace) }
    } else {
        let bundle = Bundle::read(&args.file)?;
        if args.json { json(&mut out, &bundle) } else { print_bundle(&mut out, &bundle) }
    };
    match printed.and_then(|()| out.flush()) {
        // `inspect ... | head` is not an error.
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        result => result.map(|()| ExitCode::SUCCESS).context("cannot print"),
    }
}

fn json<T: serde::Serialize>(out: &mut impl Write, value: &T) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)
}

fn print_image(out: &mut impl Write, image: &ImageId) -> io::Result<()> {
    writeln!(out, "image       {}", image.reference)?;
    writeln!(out, "chain ID    {}", image.chain_id)?;
    if let Some(manifest) = &image.manifest {
        writeln!(out, "manifest    {manifest}")?;
    }
    Ok(())
}

fn print_bundle(out: &mut impl Write, bundle: &Bundle) -> io::Result<()> {
    print_image(out, &bundle.image)?;
    writeln!(out, "repository  {}", bundle.repository)?;
    writeln!(out, "traces      {}, {} of them incomplete", bundle.traces, bundle.incomplete_traces)?;
    let stored = bundle.objects.iter().map(|o| o.stored_size).sum();
    let raw = bundle.objects.iter().map(|o| o.raw_size).sum();
    let (count, stored, raw) = (bundle.objects.len(), text::bytes(stored), text::bytes(raw));
    writeln!(out, "objects     {count}, {stored} to transfer, {raw} in the cache")?;
    let skipped = bundle.skipped;
    writeln!(
        out,
        "left out    {} not in the image, {} in unpublished layers, {} unsupported",
        skipped.not_in_image, skipped.layer_not_in_repository, skipped.unsupported
    )?;
    writeln!(out, "\n  first use   used in    transfer         raw  kind     object and path")?;
    for object in &bundle.objects {
        writeln!(
            out,
            "{:>11} {:>9} {:>11} {:>11}  {:<7}  {} {}",
            text::microseconds(object.at_us),
            object.used_in,
            text::bytes(object.stored_size),
            text::bytes(object.raw_size),
            format!("{:?}", object.kind).to_lowercase(),
            object.hash,
            text::path(&object.path)
        )?;
    }
    Ok(())
}

fn print_trace(out: &mut impl Write, trace: &Trace) -> io::Result<()> {
    print_image(out, &trace.image)?;
    writeln!(out, "recorder    {}", trace.recorder)?;
    writeln!(out, "duration    {}, ended: {:?}", text::microseconds(trace.duration_us), trace.end)?;
    let complete = if trace.is_complete() { "yes" } else { "NO" };
    writeln!(out, "complete    {complete} ({} events lost)", trace.lost.total())?;
    let size = trace.files.iter().map(|f| f.size).sum();
    writeln!(out, "files       {}, {}", trace.files.len(), text::bytes(size))?;
    writeln!(out, "\n  first use        size  flags    how          path")?;
    for file in &trace.files {
        writeln!(
            out,
            "{:>11} {:>11}  {:<#7x}  {:<11}  {}",
            text::microseconds(file.at_us),
            text::bytes(file.size),
            file.open_flags,
            format!("{:?}", file.how).to_lowercase(),
            text::path(&file.path)
        )?;
    }
    Ok(())
}
