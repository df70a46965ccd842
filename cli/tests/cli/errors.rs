//! Error messages: one line with the cause, once, and what to do; no backtrace.

use std::net::TcpListener;
use std::process::{Command, Output};

use crate::support::{PROGRAM, bundle, write};

fn run_with_backtraces(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).env("RUST_BACKTRACE", "1").output().unwrap()
}

#[test]
fn an_error_is_one_line_without_a_backtrace() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let (missing, socket) = (path("missing"), path("no.sock"));
    let file = write(directory.path(), &bundle("image", vec![]), "bundle").display().to_string();
    let read_only = "/proc/image.bundle";
    for (arguments, code, expected) in [
        (&["bundle", "inspect", &missing][..], 1, "No such file or directory (os error 2)"),
        (&["trace", "show", &file], 1, "is a bundle, not a trace: show it with `cvmfs-prefetch bundle inspect"),
        (&["bundle", "verify", &missing, "--repository", "http://127.0.0.1:1/cvmfs/x.org"], 2, "No such file"),
        (&["bundle", "export", &file, "--format", "nydus", "-o", read_only], 1, read_only),
        (&["store", "list", "--store", &missing], 1, "there is no bundle store in"),
        (&["status", "--socket", &socket], 1, "is cvmfs-prefetchd running?"),
        (&["store", "rm", "r/i:t", "--socket", &socket], 1, "is cvmfs-prefetchd running?"),
    ] {
        let output = run_with_backtraces(arguments);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        assert!(text.starts_with("error: ") && text.contains(expected), "{arguments:?}: {text}");
        assert_eq!(text.trim_end().lines().count(), 1, "{arguments:?}: {text}");
        let cause = text.trim_end().rsplit(": ").next().unwrap();
        assert_eq!(text.matches(cause).count(), 1, "{arguments:?}: the cause is repeated: {text}");
    }
}

#[test]
fn a_registry_without_tls_is_recognised() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let reference = format!("{}/demo/image:1", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            use std::io::Write;
            let _ = connection.unwrap().write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
        }
    });
    let output = run_with_backtraces(&["bundle", "pull", &reference]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("\nhint: ") && text.contains("--plain-http"), "{text}");
}

#[test]
fn verbosity_selects_log_messages_unless_rust_log_is_set() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing").display().to_string();
    let log = |arguments: &[&str], rust_log: Option<&str>| {
        let mut command = Command::new(PROGRAM);
        command.args(arguments).args(["status", "--socket", &missing]).env_remove("RUST_LOG");
        rust_log.map(|filter| command.env("RUST_LOG", filter));
        String::from_utf8(command.output().unwrap().stderr).unwrap()
    };
    assert_eq!(log(&[], None).lines().count(), 1);
    assert_eq!(log(&["-q"], None).lines().count(), 1);
    assert!(log(&["-vvv"], None).lines().count() > 1);
    assert_eq!(log(&["-vvv"], Some("off")).lines().count(), 1);
    assert!(!log(&["-vvv"], None).contains('\x1b'), "colours without a terminal");
}
