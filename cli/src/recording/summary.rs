//! What is printed at the end of a recording.

use std::io::{self, Write};

use bundles::trace::End;

use crate::json::RecordedTrace;
use crate::text;

pub(crate) fn print(out: &mut impl Write, report: &RecordedTrace) -> io::Result<()> {
    let state = if report.complete { "complete" } else { "incomplete" };
    writeln!(out, "trace     {} ({state})", report.trace)?;
    writeln!(out, "image     {}", text::line(&report.image.reference))?;
    writeln!(out, "chain ID  {}", report.image.chain_id)?;
    writeln!(out, "files     {} ({})", report.files, text::bytes(report.bytes))?;
    writeln!(out, "time      {}, {}", text::microseconds(report.duration_us), report.end)?;
    writeln!(out, "lost      {} events", report.lost_events)
}

/// The note about a recording that ended neither with the container's success nor with a condition of the user. `output` is
/// the end of the container's output.
pub(crate) fn note(end: End, output: &str) -> Option<String> {
    match end {
        End::Exited(0) | End::LogLine | End::Port(_) | End::Ready | End::Settled => None,
        End::Exited(_) => Some(format!("note: the container has {end}; the end of its output:\n{output}")),
        _ => Some(format!("note: {end}; stopping the container")),
    }
}
