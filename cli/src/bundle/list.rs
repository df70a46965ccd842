//! `bundle list`.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Result;
use bundles::image::{ChainId, ImageId};
use bundles::store::View;
use serde::Serialize;

use super::Directory;
use crate::{output, text};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    directory: Directory,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Row {
    image: ImageId,
    repository: String,
    objects: usize,
    /// Bytes to transfer.
    stored_bytes: u64,
    /// Bytes of the bundle itself.
    size: u64,
    /// RFC 3339.
    last_use: String,
    /// The repository's mount point, if it was read there.
    mount: Option<String>,
}

#[derive(Serialize)]
struct Damaged {
    chain_id: ChainId,
    why: String,
}

#[derive(Default, Serialize)]
struct List {
    bundles: Vec<Row>,
    damaged: Vec<Damaged>,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let mut list = List::default();
    View::open(&args.directory.store)?.each(|chain_id, found| match found {
        Ok(stored) => list.bundles.push(Row {
            repository: stored.bundle.repository().to_owned(),
            objects: stored.bundle.objects.len(),
            stored_bytes: stored.bundle.bytes().0,
            size: stored.facts.size,
            last_use: text::time(stored.facts.used),
            mount: stored.facts.origin.map(|origin| origin.mount.display().to_string()),
            image: stored.bundle.image,
        }),
        Err(why) => list.damaged.push(Damaged { chain_id, why: why.to_string() }),
    })?;
    output::print(|out| if args.json { output::json(out, &list) } else { print(out, &list) })
}

fn print(out: &mut impl Write, list: &List) -> io::Result<()> {
    writeln!(out, "{:<71}  objects    transfer        size  last use              from, image", "chain ID")?;
    for row in &list.bundles {
        writeln!(
            out,
            "{}  {:>7} {:>11} {:>11}  {:<20}  {} {}",
            row.image.chain_id,
            row.objects,
            text::bytes(row.stored_bytes),
            text::bytes(row.size),
            row.last_use,
            text::line(row.mount.as_deref().unwrap_or("(imported)")),
            text::line(&row.image.reference)
        )?;
    }
    for Damaged { chain_id, why } in &list.damaged {
        writeln!(out, "{chain_id}  damaged: {}", text::line(why))?;
    }
    Ok(())
}
