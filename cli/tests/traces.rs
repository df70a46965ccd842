//! What a person sees of `cvmfs-prefetch trace`: records of other programs become traces, and traces are shown, summed and
//! exported; a cut trace is a readable beginning, and a damaged one is refused.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bundles::image::{ChainId, Digest};
use serde_json::Value;

/// Runs the command; its exit code, and all it printed.
fn run(arguments: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_cvmfs-prefetch")).args(arguments).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

/// What it printed, if it was content.
fn good(arguments: &[&str]) -> String {
    let (code, text) = run(arguments);
    assert_eq!(code, 0, "{arguments:?}: {text}");
    text
}

fn chain_id() -> ChainId {
    ChainId(Digest::sha256(b"image"))
}

/// An imported trace; where it is.
fn imported(directory: &Path, format: &str, record: &str) -> PathBuf {
    let (from, to) = (directory.join(format!("{format}.record")), directory.join(format!("{format}.trace")));
    fs::write(&from, record).unwrap();
    let (image, to_name) = (chain_id().to_string(), to.to_str().unwrap());
    good(&["trace", "import", from.to_str().unwrap(), "--format", format, "--image", &image, "--output", to_name]);
    to
}

/// Two files, by strace: a program, and a file that it opens.
const STRACE: &str = "\
812   1700000000.000100 execve(\"/bin/sh\", [\"sh\"], 0x7ffc /* 9 vars */) = 0
812   1700000000.000500 openat(AT_FDCWD</srv>, \"/etc/a,b\", O_RDONLY) = 3</etc/a,b>
812   1700000000.002000 exit_group(0)     = ?
";

#[test]
fn records_of_other_programs_become_traces_that_name_their_origin() {
    let directory = tempfile::tempdir().unwrap();
    let layer = format!("/.layers/ab/ab{}/layerfs", "0".repeat(62));
    let stargz = format!("{{\"path\":\"bin/sh\",\"manifestDigest\":\"{}\",\"layerIndex\":0}}\n", Digest::sha256(b"m"));
    let cvmfs = format!(
        "\"1700000000000.000\",\"1\",\"{layer}/bin/sh\",\"open()\"\r\n\
         \"1700000000900.000\",\"-2\",\"Tracer\",\"Destroying trace buffer...\"\r\n"
    );
    let records =
        [("stargz", &*stargz), ("nydus", "path,size,elapsed\n/bin/sh,7,12\n"), ("cvmfs", &cvmfs), ("strace", STRACE)];
    for (format, record) in records {
        let trace = imported(directory.path(), format, record);
        let shown = good(&["trace", "show", trace.to_str().unwrap()]);
        assert!(shown.contains("/bin/sh") && shown.contains(format), "{format}: {shown}");
        assert!(shown.contains(&chain_id().to_string()) && shown.contains("not seen "), "{format}: {shown}");
        let (code, text) = {
            let from = directory.path().join("none.record");
            fs::write(&from, "no such record\n").unwrap();
            let to = directory.path().join("none.trace");
            let [from, to] = [&from, &to].map(|path| path.to_str().unwrap());
            let image = chain_id().to_string();
            run(&["trace", "import", from, "--format", format, "--image", &image, "--output", to])
        };
        assert!(code == 1 && text.contains("none.record"), "{format}: {code}\n{text}");
        assert!(!directory.path().join("none.trace").exists(), "{format}: a trace of nothing");
    }
}

#[test]
fn a_trace_is_exported_for_other_programs() {
    let directory = tempfile::tempdir().unwrap();
    let trace = imported(directory.path(), "strace", STRACE);
    let trace = trace.to_str().unwrap();
    let exported = |format: &str| good(&["trace", "export", trace, "--format", format]);

    let json: Value = serde_json::from_str(&exported("json")).unwrap();
    let paths: Vec<_> = json["files"].as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["/bin/sh", "/etc/a,b"]);

    let csv = exported("csv");
    let lines: Vec<_> = csv.lines().collect();
    assert_eq!(lines.len(), 3, "{csv}");
    assert!(lines[0].contains("path") && lines[2].contains("\"/etc/a,b\""), "{csv}");

    // As Perfetto reads it: an object with a list of events, each with a phase, a process and a time.
    let chrome: Value = serde_json::from_str(&exported("chrome")).unwrap();
    let events = chrome["traceEvents"].as_array().unwrap();
    assert!(events.iter().all(|event| event["ph"].is_string() && event["pid"].is_u64()), "{chrome:#}");
    let at = |name: &str| events.iter().find(|event| event["name"] == name).unwrap()["ts"].as_f64().unwrap();
    assert_eq!(at("/etc/a,b") - at("/bin/sh"), 400.0);

    let file = directory.path().join("exported");
    good(&["trace", "export", trace, "--format", "csv", "--output", file.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(file).unwrap(), csv);
    let stats = good(&["trace", "stats", trace]);
    assert!(stats.contains("/etc") && stats.contains("/bin"), "{stats}");
}

#[test]
fn a_beginning_is_shown_as_such_and_a_damaged_trace_refused() {
    let directory = tempfile::tempdir().unwrap();
    let whole = fs::read(imported(directory.path(), "strace", STRACE)).unwrap();
    let path = directory.path().join("other.trace");
    let show = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        run(&["trace", "show", path.to_str().unwrap()])
    };
    let (code, text) = show(&whole[..whole.len() - 1]);
    assert!(code == 0 && text.contains("unfinished") && text.contains("/etc/a,b"), "{code}\n{text}");
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    let (code, text) = show(&damaged);
    assert!(code == 1 && text.contains("other.trace"), "{code}\n{text}");
    let (code, text) = show(&[&whole[..], b"more"].concat());
    assert!(code == 1 && text.contains("other.trace"), "{code}\n{text}");
}
