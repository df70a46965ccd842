//! The command line (`check`, `config`) and the metrics.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};

use super::process::Snapshotter;

fn run(config: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cvmfs-prefetch-snapshotter"));
    command.arg("--config").arg(config).args(arguments).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn check_reports_problems_and_what_to_do() {
    let snapshotter = Snapshotter::start(&["here", "absent"], 1000);
    fs::create_dir_all(snapshotter.path("here/.layers")).unwrap();
    let config = snapshotter.path("config.toml");
    let containerd = snapshotter.path("containerd.toml");
    let snippet = run(&config, &["config", "containerd", "--major", "1"]);
    assert!(snippet.status.success());
    fs::write(&containerd, &snippet.stdout).unwrap();
    let client = snapshotter.path("cvmfs");
    fs::create_dir(&client).unwrap();
    let cache = format!("CVMFS_CACHE_BASE={}\n", snapshotter.path("cache").display());
    fs::write(client.join("default.local"), cache).unwrap();
    let [containerd, client] = [&containerd, &client].map(|path| path.to_str().unwrap());
    let output = run(&config, &["check", "--containerd-config", containerd, "--client-config", client]);
    let report = text(&output);
    let line = |subject: &str| report.lines().find(|line| line.contains(subject)).unwrap_or_else(|| panic!("{report}"));
    for (subject, is_ok, message) in [
        ("containerd's configuration", true, "uses this snapshotter"),
        ("socket", true, "a process is listening"),
        ("repository here", true, "has layers"),
        ("overlayfs on", true, "can be mounted"),
        ("repository absent", false, "mount the repository"),
        ("file systems for here", false, "CVMFS_FUSE3_MAX_THREADS"),
        ("prefetch daemon", false, "nothing is prefetched"),
    ] {
        assert_eq!(line(subject).starts_with("ok"), is_ok, "{report}");
        assert!(line(subject).contains(message), "{report}");
    }
    assert!(!output.status.success(), "some checks failed");
    // The overlay of the check is gone: no mount and no directory is left.
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(snapshotter.path("root").to_str().unwrap()), "{mounts}");
    assert!(
        fs::read_dir(snapshotter.path("root"))
            .unwrap()
            .all(|entry| { !entry.unwrap().file_name().to_string_lossy().starts_with(".check") })
    );
    let json = run(&config, &["check", "--json", "--containerd-config", "/nowhere"]);
    assert!(text(&json).contains("\"ok\": false") && text(&json).contains("--containerd-config"), "{}", text(&json));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dumped_configuration_has_defaults_and_can_be_used() {
    let snapshotter = Snapshotter::start(&["a"], 1000);
    let dumped = run(&snapshotter.path("config.toml"), &["config", "dump"]);
    assert!(dumped.status.success());
    for line in ["lookup_timeout = \"1s\"", "wait = \"none\"", "max_wait = \"2s\"", "prefetch_at_start = false"] {
        assert!(text(&dumped).contains(line), "{}", text(&dumped));
    }
    let again = snapshotter.path("again.toml");
    fs::write(&again, &dumped.stdout).unwrap();
    assert_eq!(text(&run(&again, &["config", "dump"])), text(&dumped));
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_snapshots_and_calls() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let snapshotter = Snapshotter::start_with(&[], 1000, &format!("metrics_address = \"{address}\""));
    let mut client = snapshotter.connect().await;
    client.prepare("extract-1 a", "", &[]).await.unwrap();
    client.commit("extract-1 a", "a", &[]).await.unwrap();
    client.prepare("c", "a", &[]).await.unwrap();
    let mut connection = TcpStream::connect(address).unwrap();
    connection.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    for line in [
        "cvmfs_prefetch_snapshotter_snapshots{kind=\"committed\",origin=\"local\"} 1",
        "cvmfs_prefetch_snapshotter_snapshots{kind=\"active\",origin=\"local\"} 1",
        "cvmfs_prefetch_snapshotter_call_seconds_count{call=\"prepare\"} 2",
        "cvmfs_prefetch_snapshotter_call_seconds_count{call=\"commit\"} 1",
        "cvmfs_prefetch_snapshotter_prefetch_requests_total{outcome=\"sent\"} 0",
    ] {
        assert!(answer.lines().any(|served| served == line), "{line} is not in {answer}");
    }
}
