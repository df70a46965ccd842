//! What `bundle build` and `bundle rebase` print.

use std::io::{self, Write};

use crate::json::{BuiltBundle, Excluded, RebasedFrom};
use crate::text;

pub(super) fn print(out: &mut impl Write, report: &BuiltBundle) -> io::Result<()> {
    writeln!(
        out,
        "{}: {} objects, {} to transfer, {} in the cache, from {} trace(s)",
        report.bundle,
        report.objects,
        text::bytes(report.stored_bytes),
        text::bytes(report.raw_bytes),
        report.traces
    )?;
    if let Some(RebasedFrom { image, unchanged, changed, removed }) = &report.rebased_from {
        let from = text::line(&image.reference);
        writeln!(out, "rebased from {from}: {unchanged} objects unchanged, {changed} changed, {removed} removed")?;
    }
    for Excluded { count, cause } in &report.excluded {
        writeln!(out, "excluded: {count} {cause}")?;
    }
    if report.incomplete_traces > 0 {
        let count = report.incomplete_traces;
        writeln!(out, "warning: {count} of the traces are incomplete, so the bundle may lack objects")?;
    }
    Ok(())
}
