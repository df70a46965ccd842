//! Printing on standard output.

use std::io::{self, BufWriter, StdoutLock, Write};
use std::process::ExitCode;

use anyhow::{Context, Result};
use bundles::image::ImageId;

/// Runs `print` on standard output.
pub(crate) fn print(print: impl FnOnce(&mut BufWriter<StdoutLock<'static>>) -> io::Result<()>) -> Result<ExitCode> {
    let mut out = BufWriter::new(io::stdout().lock());
    match print(&mut out).and_then(|()| out.flush()) {
        // `... | head` is not an error.
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        result => result.map(|()| ExitCode::SUCCESS).context("cannot print"),
    }
}

/// `value` as JSON for people.
pub(crate) fn json<T: serde::Serialize>(out: &mut impl Write, value: &T) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)
}

/// The names of an image.
pub(crate) fn image(out: &mut impl Write, image: &ImageId) -> io::Result<()> {
    writeln!(out, "image       {}", image.reference)?;
    writeln!(out, "chain ID    {}", image.chain_id)?;
    if let Some(manifest) = &image.manifest {
        writeln!(out, "manifest    {manifest}")?;
    }
    Ok(())
}
