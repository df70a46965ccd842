//! `cvmfs-prefetch trace`: importing recordings of other programs, showing, summing up and exporting traces; reading truncated
//! and damaged traces.

use std::fs;

use ::bundles::image::Digest;
use serde_json::Value;

use crate::support::{STRACE, chain_id, import, run};

/// What the program printed; it must succeed.
fn succeed(arguments: &[&str]) -> String {
    let (code, text) = run(arguments);
    assert_eq!(code, 0, "{arguments:?}: {text}");
    text
}

#[test]
fn recordings_of_other_programs_become_traces() {
    let directory = tempfile::tempdir().unwrap();
    let layer = format!("/.layers/ab/ab{}/layerfs", "0".repeat(62));
    let stargz = format!("{{\"path\":\"bin/sh\",\"manifestDigest\":\"{}\",\"layerIndex\":0}}\n", Digest::sha256(b"m"));
    let cvmfs = format!(
        "\"1700000000000.000\",\"1\",\"{layer}/bin/sh\",\"open()\"\r\n\
         \"1700000000900.000\",\"-2\",\"Tracer\",\"Destroying trace buffer...\"\r\n"
    );
    let recordings =
        [("stargz", &*stargz), ("nydus", "path,size,elapsed\n/bin/sh,7,12\n"), ("cvmfs", &cvmfs), ("strace", STRACE)];
    for (format, recording) in recordings {
        let trace = import(directory.path(), format, recording);
        let shown = succeed(&["trace", "show", trace.to_str().unwrap()]);
        assert!(shown.contains("/bin/sh") && shown.contains(format), "{format}: {shown}");
        assert!(shown.contains(&chain_id().to_string()) && shown.contains("blind spots "), "{format}: {shown}");
        let (code, text) = {
            let from = directory.path().join("none.recording");
            fs::write(&from, "no such recording\n").unwrap();
            let to = directory.path().join("none.trace");
            let [from, to] = [&from, &to].map(|path| path.to_str().unwrap());
            let image = chain_id().to_string();
            run(&["trace", "import", from, "--format", format, "--image", &image, "--output", to])
        };
        assert!(code == 1 && text.contains("none.recording"), "{format}: {code}\n{text}");
        assert!(!directory.path().join("none.trace").exists(), "{format}: a trace was written");
    }
}

#[test]
fn a_trace_is_exported_for_other_programs() {
    let directory = tempfile::tempdir().unwrap();
    let trace = import(directory.path(), "strace", STRACE);
    let trace = trace.to_str().unwrap();
    let exported = |format: &str| succeed(&["trace", "export", trace, "--format", format]);

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
    succeed(&["trace", "export", trace, "--format", "csv", "--output", file.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(file).unwrap(), csv);
    let stats = succeed(&["trace", "stats", trace]);
    assert!(stats.contains("/etc") && stats.contains("/bin"), "{stats}");
}

#[test]
fn a_truncated_trace_is_shown_and_a_damaged_one_refused() {
    let directory = tempfile::tempdir().unwrap();
    let whole = fs::read(import(directory.path(), "strace", STRACE)).unwrap();
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
