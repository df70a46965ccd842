//! A trace as Chrome trace events, which Perfetto (<https://ui.perfetto.dev>) and `chrome://tracing` open: a track for
//! each way of use, on which each file is an instant, and two counters that grow with files and bytes.
//!
//! Source: "Trace Event Format" of the Chromium project.

use std::collections::BTreeSet;
use std::io::{self, Write};

use bundles::trace::{FileUse, Trace, Use};
use serde_json::{Value, json};

/// The one process of the picture.
const PROCESS: u32 = 1;
/// The track of the recording as a whole; the ways of use have the tracks behind.
const RECORDING: u32 = 1;

pub(super) fn write(out: &mut impl Write, trace: &Trace) -> io::Result<()> {
    // One event a line, none of them kept: a trace may have a million files.
    writeln!(out, "{{\"displayTimeUnit\":\"ms\",\"traceEvents\":[")?;
    serde_json::to_writer(&mut *out, &name("process_name", RECORDING, &trace.image.reference))?;
    event(out, &name("thread_name", RECORDING, "recording"))?;
    let ways: BTreeSet<_> = trace.files.iter().map(|file| (track(file.how), file.how.to_string())).collect();
    for (track, way) in ways {
        event(out, &name("thread_name", track, &way))?;
    }
    event(out, &recording(trace))?;
    let mut bytes = 0u64;
    for (place, file) in trace.files.iter().enumerate() {
        bytes = bytes.saturating_add(file.size);
        event(out, &instant(file))?;
        event(out, &counter("files used", file.at_us, place as u64 + 1))?;
        event(out, &counter("bytes of files used", file.at_us, bytes))?;
    }
    writeln!(out, "\n]}}")
}

fn event(out: &mut impl Write, event: &Value) -> io::Result<()> {
    writeln!(out, ",")?;
    Ok(serde_json::to_writer(out, event)?)
}

fn track(how: Use) -> u32 {
    match how {
        Use::Exec => 2,
        Use::Interpreter => 3,
        Use::Open => 4,
        Use::Map => 5,
        Use::Other(code) => 6 + u32::from(code),
    }
}

fn name(what: &str, track: u32, name: &str) -> Value {
    json!({"ph": "M", "name": what, "pid": PROCESS, "tid": track, "args": {"name": name}})
}

fn recording(trace: &Trace) -> Value {
    let args = json!({
        "chain_id": trace.image.chain_id, "recorder": trace.recorder, "end": trace.end.to_string(),
        "faults": trace.faults(), "not_seen": trace.unseen,
    });
    let (ts, dur) = (0, trace.duration_us);
    json!({"ph": "X", "name": "recording", "pid": PROCESS, "tid": RECORDING, "ts": ts, "dur": dur, "args": args})
}

fn instant(file: &FileUse) -> Value {
    let args = json!({"size": file.size, "open_flags": format!("{:#x}", file.open_flags)});
    let (track, way) = (track(file.how), file.how.to_string());
    json!({
        "ph": "i", "s": "t", "name": file.path, "cat": way, "pid": PROCESS, "tid": track, "ts": file.at_us, "args": args,
    })
}

fn counter(what: &str, at_us: u64, value: u64) -> Value {
    json!({"ph": "C", "name": what, "pid": PROCESS, "ts": at_us, "args": {"value": value}})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::tests::trace;

    #[test]
    fn each_file_is_an_instant_at_its_time_and_the_counters_grow() {
        let mut out = Vec::new();
        write(&mut out, &trace(&[("/a \"b\"", 7, 10), ("/c", 9, 20)])).unwrap();
        let all: Value = serde_json::from_slice(&out).unwrap();
        let events = all["traceEvents"].as_array().unwrap();
        let of = |ph: &str| -> Vec<_> { events.iter().filter(|e| e["ph"] == ph).collect() };
        let seen: Vec<_> = of("i").iter().map(|e| (e["name"].as_str().unwrap(), e["ts"].as_u64().unwrap())).collect();
        assert_eq!(seen, [("/a \"b\"", 7), ("/c", 9)]);
        let counted: Vec<_> = of("C").iter().map(|e| e["args"]["value"].as_u64().unwrap()).collect();
        assert_eq!(counted, [1, 10, 2, 30]);
        assert_eq!(of("X")[0]["dur"], trace(&[]).duration_us);
        // Every event but the counters is on a named track.
        let named: BTreeSet<_> = of("M").iter().map(|e| e["tid"].as_u64().unwrap()).collect();
        assert!(of("i").iter().chain(&of("X")).all(|e| named.contains(&e["tid"].as_u64().unwrap())));
    }
}
