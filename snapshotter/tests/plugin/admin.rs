//! What an operator sees of the plugin: `check`, `config`, metrics.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};

use super::plugin::Plugin;

fn run(config: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cvmfs-prefetch-snapshotter"));
    command.arg("--config").arg(config).args(arguments).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn check_tells_what_is_missing_and_what_to_do() {
    let plugin = Plugin::start(&["here", "absent"], 1000);
    fs::create_dir_all(plugin.path("here/.layers")).unwrap();
    let config = plugin.path("config.toml");
    let containerd = plugin.path("containerd.toml");
    let snippet = run(&config, &["config", "containerd", "--major", "1"]);
    assert!(snippet.status.success());
    fs::write(&containerd, &snippet.stdout).unwrap();
    let client = plugin.path("cvmfs");
    fs::create_dir(&client).unwrap();
    let cache = format!("CVMFS_CACHE_BASE={}\n", plugin.path("cache").display());
    fs::write(client.join("default.local"), cache).unwrap();
    let [containerd, client] = [&containerd, &client].map(|path| path.to_str().unwrap());
    let output = run(&config, &["check", "--containerd-config", containerd, "--client-config", client]);
    let told = text(&output);
    let line = |subject: &str| told.lines().find(|line| line.contains(subject)).unwrap_or_else(|| panic!("{told}"));
    for (subject, is_well, says) in [
        ("containerd's configuration", true, "it uses this plugin"),
        ("socket", true, "somebody listens"),
        ("repository here", true, "with layers"),
        ("overlayfs over", true, "can be mounted"),
        ("repository absent", false, "mount the repository"),
        ("file systems for here", false, "CVMFS_FUSE3_MAX_THREADS"),
        ("prefetch daemon", false, "no prefetch_socket"),
    ] {
        assert_eq!(line(subject).starts_with("ok"), is_well, "{told}");
        assert!(line(subject).contains(says), "{told}");
    }
    assert!(!output.status.success(), "something is missing");
    // The overlay that was tried has left nothing, neither a mount nor a directory.
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(plugin.path("root").to_str().unwrap()), "{mounts}");
    assert!(
        fs::read_dir(plugin.path("root"))
            .unwrap()
            .all(|entry| { !entry.unwrap().file_name().to_string_lossy().starts_with(".check") })
    );
    let json = run(&config, &["check", "--json", "--containerd-config", "/nowhere"]);
    assert!(text(&json).contains("\"ok\": false") && text(&json).contains("--containerd-config"), "{}", text(&json));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_is_shown_with_its_defaults_and_can_be_read_again() {
    let plugin = Plugin::start(&["a"], 1000);
    let dumped = run(&plugin.path("config.toml"), &["config", "dump"]);
    assert!(dumped.status.success());
    for line in ["look_up_deadline_ms = 1000", "wait = \"none\"", "wait_ms = 2000", "prefetch_at_start = false"] {
        assert!(text(&dumped).contains(line), "{}", text(&dumped));
    }
    let again = plugin.path("again.toml");
    fs::write(&again, &dumped.stdout).unwrap();
    assert_eq!(text(&run(&again, &["config", "dump"])), text(&dumped));
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_and_calls_are_counted_for_prometheus() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let plugin = Plugin::start_with(&[], 1000, &format!("metrics_address = \"{address}\""));
    let mut client = plugin.connect().await;
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
        "cvmfs_prefetch_snapshotter_hints_total{fate=\"sent\"} 0",
    ] {
        assert!(answer.lines().any(|told| told == line), "{line} is not in {answer}");
    }
}
