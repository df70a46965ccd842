//! What is said at the end of a recording.

use std::path::Path;

use bundles::trace::{End, Trace};

use crate::text;

pub(crate) fn text(output: &Path, trace: &Trace) -> String {
    let size = trace.files.iter().map(|file| file.size).sum();
    let state = if trace.is_complete() { "complete" } else { "incomplete" };
    format!(
        "trace     {} ({state})\n\
         image     {}\n\
         chain ID  {}\n\
         files     {} ({})\n\
         time      {}, {}\n\
         lost      {} events, {} paths not told",
        output.display(),
        trace.image.reference,
        trace.image.chain_id,
        trace.files.len(),
        text::bytes(size),
        text::microseconds(trace.duration_us),
        end(trace.end),
        trace.lost,
        trace.unresolved,
    )
}

/// Why a recording ended otherwise than by the container's success or what was waited for, and what the container said
/// last.
pub(crate) fn why(ended: End, output: &str) -> String {
    match ended {
        End::Exited(0) | End::Line | End::Port(_) | End::Settled => String::new(),
        End::Exited(_) => format!("note: the container has {}; it said last:\n{output}", end(ended)),
        End::TimeUp | End::Stopped => format!("note: {}; the container is stopped\n", end(ended)),
    }
}

fn end(end: End) -> String {
    match end {
        End::Exited(code) => format!("exited with {code}"),
        End::TimeUp => "the time was up".into(),
        End::Stopped => "stopped by request".into(),
        End::Line => "the line was seen".into(),
        End::Port(port) => format!("port {port} answered"),
        End::Settled => "settled".into(),
    }
}
