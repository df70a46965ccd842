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
         lost      {} events",
        output.display(),
        trace.image.reference,
        trace.image.chain_id,
        trace.files.len(),
        text::bytes(size),
        text::microseconds(trace.duration_us),
        trace.end,
        trace.losses.total(),
    )
}

/// Why a recording ended otherwise than by the container's success or what was waited for, and what the container said
/// last.
pub(crate) fn why(ended: End, output: &str) -> String {
    match ended {
        End::Exited(0) | End::LogLine | End::Port(_) | End::Ready | End::Settled => String::new(),
        End::Exited(_) => format!("note: the container has {ended}; it said last:\n{output}"),
        _ => format!("note: {ended}; the container is stopped\n"),
    }
}
