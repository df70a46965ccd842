//! A trace as Chrome trace events, which Perfetto (<https://ui.perfetto.dev>) and `chrome://tracing` open: the phases as
//! spans, a track for each process of the container with an instant for each file, and counters of files, of their bytes and
//! of the bytes read of them.
//!
//! Source: "Trace Event Format" of the Chromium project.

use std::collections::BTreeMap;
use std::io::{self, Write};

use bundles::phase::Phase;
use bundles::trace::{FileUse, Lookup, Process, Trace};
use serde_json::{Value, json};

/// The only process that the viewer sees; a process of the container is one of its threads.
const VIEWER_PROCESS: u32 = 1;
/// Track of the recording as a whole.
const RECORDING: u64 = 1;
/// Track of the phases.
const PHASES: u64 = 2;
/// Track of process 0, the unknown one. The track of process N is N further.
const PROCESSES: u64 = 3;

pub(super) fn write(out: &mut impl Write, trace: &Trace) -> io::Result<()> {
    // One event per line, written at once: a trace may have a million files.
    writeln!(out, "{{\"displayTimeUnit\":\"ms\",\"traceEvents\":[")?;
    serde_json::to_writer(&mut *out, &name("process_name", RECORDING, &trace.image.reference))?;
    event(out, &name("thread_name", RECORDING, "recording"))?;
    event(out, &name("thread_name", PHASES, "phases"))?;
    for (pid, name_of) in processes(trace) {
        event(out, &name("thread_name", PROCESSES + u64::from(pid), &name_of))?;
    }
    event(out, &recording(trace))?;
    for (phase, start_us, end_us) in phases(trace) {
        event(out, &span(&phase.to_string(), PHASES, start_us, end_us - start_us, &json!({})))?;
    }
    let (mut bytes, mut read) = (0u64, 0u64);
    for (index, file) in trace.files.iter().enumerate() {
        bytes = bytes.saturating_add(file.size);
        event(out, &used(file))?;
        event(out, &counter("files used", file.at_us, index as u64 + 1))?;
        event(out, &counter("bytes of files used", file.at_us, bytes))?;
        if let Some(ranges) = &file.ranges {
            // A trace does not record when a file was read; at its first use, the counter shows which files are worth it.
            read = read.saturating_add(ranges.bytes_read());
            event(out, &counter("bytes read of files used", file.at_us, read))?;
        }
    }
    for (kind, lookups) in [("absent", &trace.absent), ("directory", &trace.directories)] {
        lookups.iter().try_for_each(|lookup| event(out, &looked_up(kind, lookup)))?;
    }
    writeln!(out, "\n]}}")
}

fn event(out: &mut impl Write, event: &Value) -> io::Result<()> {
    writeln!(out, ",")?;
    Ok(serde_json::to_writer(out, event)?)
}

/// The names of the processes by number. A process that executes another program changes its name, and has several.
fn processes(trace: &Trace) -> BTreeMap<u32, String> {
    let lookups = trace.absent.iter().chain(&trace.directories).map(|lookup| &lookup.process);
    let mut names = BTreeMap::<u32, Vec<&str>>::new();
    for process in trace.files.iter().map(|file| &file.process).chain(lookups) {
        let names = names.entry(process.pid).or_default();
        if !process.name.is_empty() && !names.contains(&process.name.as_str()) && names.len() < MAX_NAMES {
            names.push(&process.name);
        }
    }
    let joined = |(pid, names): (u32, Vec<&str>)| match (pid, names.join(", ")) {
        (0, names) if names.is_empty() => (pid, "unknown process".to_string()),
        (0, names) => (pid, format!("outside the container: {names}")),
        (_, names) => (pid, format!("{pid} {names}").trim_end().to_string()),
    };
    names.into_iter().map(joined).collect()
}

/// How many names of a process are shown.
const MAX_NAMES: usize = 8;

/// The phases with their beginnings and ends, without empty ones.
fn phases(trace: &Trace) -> Vec<(Phase, u64, u64)> {
    let start_up = trace.phases.start_up_us.min(trace.duration_us);
    let main = trace.phases.main_us.unwrap_or(u64::MAX).clamp(start_up, trace.duration_us);
    let all = [(Phase::SetUp, 0, start_up), (Phase::StartUp, start_up, main), (Phase::Main, main, trace.duration_us)];
    all.into_iter().filter(|(_, start_us, end_us)| start_us < end_us).collect()
}

fn track(process: &Process) -> u64 {
    PROCESSES + u64::from(process.pid)
}

fn name(what: &str, track: u64, name: &str) -> Value {
    json!({"ph": "M", "name": what, "pid": VIEWER_PROCESS, "tid": track, "args": {"name": name}})
}

fn span(name: &str, track: u64, start_us: u64, length_us: u64, args: &Value) -> Value {
    json!({"ph": "X", "name": name, "pid": VIEWER_PROCESS, "tid": track, "ts": start_us, "dur": length_us, "args": args})
}

fn recording(trace: &Trace) -> Value {
    let args = json!({
        "chain_id": trace.image.chain_id, "recorder": trace.recorder, "end": trace.end.to_string(),
        "faults": trace.faults(), "blind_spots": trace.blind_spots, "excluded": trace.excluded, "command": trace.command,
        "repositories": trace.repositories,
    });
    span("recording", RECORDING, 0, trace.duration_us, &args)
}

fn used(file: &FileUse) -> Value {
    let args = json!({
        "size": file.size, "open_flags": format!("{:#x}", file.open_flags), "process": file.process,
        "written": file.written, "bytes_read": file.ranges.as_ref().map(|ranges| ranges.bytes_read()),
        "bytes_ahead": file.ranges.as_ref().map(|ranges| ranges.bytes_ahead()),
    });
    instant(&json!(file.path), &file.how.to_string(), track(&file.process), file.at_us, &args)
}

fn looked_up(kind: &str, lookup: &Lookup) -> Value {
    instant(&json!(lookup.path), kind, track(&lookup.process), lookup.at_us, &json!({"process": lookup.process}))
}

fn instant(name: &Value, kind: &str, track: u64, at_us: u64, args: &Value) -> Value {
    json!({
        "ph": "i", "s": "t", "name": name, "cat": kind, "pid": VIEWER_PROCESS, "tid": track, "ts": at_us, "args": args,
    })
}

fn counter(what: &str, at_us: u64, value: u64) -> Value {
    json!({"ph": "C", "name": what, "pid": VIEWER_PROCESS, "ts": at_us, "args": {"value": value}})
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use bundles::trace::Phases;

    use super::*;
    use crate::test_traces::{full_trace, trace};

    /// The events by kind.
    fn events(trace: &Trace) -> BTreeMap<String, Vec<Value>> {
        let mut out = Vec::new();
        write(&mut out, trace).unwrap();
        let all: Value = serde_json::from_slice(&out).unwrap();
        let mut events = BTreeMap::<_, Vec<_>>::new();
        for event in all["traceEvents"].as_array().unwrap() {
            events.entry(event["ph"].as_str().unwrap().to_string()).or_default().push(event.clone());
        }
        events
    }

    #[test]
    fn each_file_is_an_instant_at_its_time_and_the_counters_grow() {
        let by_kind = events(&trace(&[("/a \"b\"", 7, 10), ("/c", 9, 20)]));
        let seen: Vec<_> =
            by_kind["i"].iter().map(|e| (e["name"].as_str().unwrap(), e["ts"].as_u64().unwrap())).collect();
        assert_eq!(seen, [("/a \"b\"", 7), ("/c", 9)]);
        let counted: Vec<_> = by_kind["C"].iter().map(|e| e["args"]["value"].as_u64().unwrap()).collect();
        assert_eq!(counted, [1, 10, 2, 30]);
        assert_eq!(by_kind["X"][0]["dur"], trace(&[]).duration_us);
    }

    #[test]
    fn processes_have_tracks_and_phases_are_spans() {
        let by_kind = events(&full_trace());
        let named: BTreeMap<_, _> =
            by_kind["M"].iter().map(|e| (e["tid"].as_u64().unwrap(), &e["args"]["name"])).collect();
        let names: Vec<_> = named.values().map(|name| name.as_str().unwrap()).collect();
        assert_eq!(names, ["recording", "phases", "unknown process", "1 sh", "7 a,b"]);
        // Every event but the counters is on a named track.
        assert!(by_kind["i"].iter().chain(&by_kind["X"]).all(|e| named.contains_key(&e["tid"].as_u64().unwrap())));
        let number = |value: &Value| value.as_u64().unwrap();
        let spans = by_kind["X"].iter().map(|e| (e["name"].as_str().unwrap(), number(&e["ts"]), number(&e["dur"])));
        let expected = [("recording", 0, 1000), ("set-up", 0, 5), ("start-up", 5, 10), ("main", 15, 985)];
        assert_eq!(spans.collect::<Vec<_>>(), expected);
        let kinds: BTreeSet<_> = by_kind["i"].iter().map(|e| e["cat"].as_str().unwrap()).collect();
        assert!(kinds.is_superset(&["absent", "directory"].into()), "{kinds:?}");
        let read = by_kind["C"].iter().filter(|e| e["name"] == "bytes read of files used").map(|e| &e["args"]["value"]);
        assert!(read.eq(&[400, 500, 500]));
    }

    #[test]
    fn phases_stay_within_the_recording() {
        use Phase::{Main, SetUp, StartUp};
        for (start_up_us, main_us, expected) in [
            (0, None, vec![(StartUp, 0, 1000)]),
            (0, Some(0), vec![(Main, 0, 1000)]),
            (10, Some(2000), vec![(SetUp, 0, 10), (StartUp, 10, 1000)]),
            (20, Some(10), vec![(SetUp, 0, 20), (Main, 20, 1000)]),
            (u64::MAX, None, vec![(SetUp, 0, 1000)]),
        ] {
            assert_eq!(phases(&Trace { phases: Phases { start_up_us, main_us }, ..trace(&[]) }), expected);
        }
    }
}
