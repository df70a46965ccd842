//! The figures of a bundle.

use std::io::{self, Write};

use bundles::bundle::Bundle;
use bundles::report::{Sum, Summary};

use crate::text;

/// How many directories are listed.
const DIRECTORIES: usize = 15;

pub(super) fn print(out: &mut impl Write, bundle: &Bundle) -> io::Result<()> {
    let summary = Summary::new(bundle);
    text::image(out, &bundle.image)?;
    writeln!(out, "traces      {}, {} of them incomplete", bundle.traces, bundle.incomplete_traces)?;
    if let Some(rebased) = &bundle.rebased {
        let (from, chain_id) = (text::line(&rebased.from.reference), rebased.from.chain_id);
        let (unchanged, changed, removed) = (rebased.unchanged, rebased.changed, rebased.removed);
        writeln!(
            out,
            "rebased     from {from} ({chain_id}): {unchanged} objects unchanged, {changed} changed, {removed} removed"
        )?;
    }
    let Sum { objects, stored, raw, expected } = summary.total;
    let (stored, raw, expected) = (text::bytes(stored), text::bytes(raw), text::bytes(expected));
    writeln!(out, "objects     {objects}, {stored} to transfer, {raw} in the cache")?;
    writeln!(out, "expected    {expected} to transfer for one start")?;
    if !bundle.packs.is_empty() {
        let size = bundle.packs.iter().fold(0u64, |sum, pack| sum.saturating_add(pack.size));
        let (count, packed) = (bundle.packs.len(), summary.packed.objects);
        writeln!(out, "packs       {count}, {}, with {packed} of the objects", text::bytes(size))?;
    }
    writeln!(out, "catalogs    {} nested", bundle.catalogs.len())?;
    if !bundle.layers.is_empty() {
        let directories = bundle.layers.iter().flat_map(|layer| &layer.directories);
        let whiteouts: usize = directories.map(|directory| directory.whiteouts.len()).sum();
        writeln!(out, "layers      {}, with {whiteouts} whiteouts", bundle.layers.len())?;
    }
    for (count, cause) in bundle.skipped.by_cause().iter().filter(|(count, _)| *count > 0) {
        writeln!(out, "excluded    {count} {cause}")?;
    }
    sums(out, "repository", summary.by_repository)?;
    sums(out, "phase", summary.by_phase)?;
    sums(out, "kind", summary.by_kind.into_iter().map(|(kind, sum)| (text::kind(kind), sum)))?;
    if !bundle.profiles.is_empty() {
        let profiles = summary.by_profile.into_iter().zip(&bundle.profiles);
        let profiles =
            profiles.map(|((name, sum), profile)| (format!("{} ({} traces)", text::line(&name), profile.traces), sum));
        sums(out, "profile", std::iter::once(("(common)".into(), summary.common)).chain(profiles))?;
    }
    let more = summary.by_directory.len().saturating_sub(DIRECTORIES);
    let largest = summary.by_directory.into_iter().take(DIRECTORIES);
    sums(out, "directory", largest.map(|(path, sum)| (text::path(&path), sum)))?;
    if more > 0 {
        writeln!(out, "  and {more} more")?;
    }
    Ok(())
}

/// Sums, each with its name.
fn sums<K: ToString>(out: &mut impl Write, title: &str, sums: impl IntoIterator<Item = (K, Sum)>) -> io::Result<()> {
    writeln!(out, "\nobjects    transfer         raw  weight  {title}")?;
    for (name, sum) in sums {
        row(out, &sum, &name.to_string())?;
    }
    Ok(())
}

/// A row with a sum and its name; the tree has the same columns.
pub(super) fn row(out: &mut impl Write, sum: &Sum, name: &str) -> io::Result<()> {
    let (stored, raw, weight) = (text::bytes(sum.stored), text::bytes(sum.raw), sum.weight().to_string());
    writeln!(out, "{:>7} {stored:>11} {raw:>11} {weight:>7}  {name}", sum.objects)
}
