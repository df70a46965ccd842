//! A process that is killed while it changes a store loses no acknowledged change.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, ExitStatus, Stdio};

use super::*;

const DIRECTORY: &str = "STORE_OF_KILLED_CHILD";
const FIRST: &str = "FIRST_OF_KILLED_CHILD";
const ROUNDS: u64 = 50;

/// Mostly small bundles, and some that take more than one block of the log.
fn numbered(n: u64) -> Bundle {
    large(&format!("{n}"), if n.is_multiple_of(5) { 3_000 } else { 20 })
}

/// Not a test, but the child process of the test below: inserts bundles, and removes every third one, until
/// it is killed.
#[test]
#[ignore = "runs as the child of another test"]
fn child() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let first: u64 = std::env::var(FIRST).unwrap().parse().unwrap();
    let store = Store::open(&PathBuf::from(directory), LIMIT).unwrap();
    let report = |what: &str, n: u64| {
        let mut out = std::io::stdout().lock();
        writeln!(out, "\n{what} {n}").and_then(|()| out.flush()).unwrap();
    };
    for n in first.. {
        let bundle = numbered(n);
        store.put(&bundle, None).unwrap();
        report("put", n);
        if n.is_multiple_of(3) {
            report("removing", n);
            store.remove(&[bundle.image.chain_id]).unwrap();
            report("removed", n);
        }
    }
}

#[test]
fn a_kill_loses_no_acknowledged_change() {
    let directory = tempfile::tempdir().unwrap();
    let (mut present, mut removed, mut next) = (BTreeSet::new(), BTreeSet::new(), 0);
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "--nocapture", "store::tests::kill::child"])
            .env(DIRECTORY, directory.path())
            .env(FIRST, next.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // The kill comes between the opening of the store and some hundred changes later.
        let moment = Duration::from_micros(round * round * 7_919 % 200_000);
        let (mut child, mut killer) = (Some(child), None);
        let mut kill = || {
            if let Some(child) = child.take() {
                killer = Some(kill_after(moment, child));
            }
        };
        if round % 10 == 9 {
            kill();
        }
        for line in lines.map_while(Result::ok) {
            let Some((what, n)) = line.split_once(' ') else { continue };
            let Ok(n) = n.parse::<u64>() else { continue };
            match what {
                "put" => _ = present.insert(n),
                // It may or may not exist if the child is killed now.
                "removing" => _ = present.remove(&n),
                "removed" => _ = removed.insert(n),
                _ => continue,
            }
            next = next.max(n + 1);
            kill();
        }
        let status = killer.expect("the child reported nothing").join().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "{status}");
        // An unfinished change may have happened.
        next += 1;
        let store = Store::open(directory.path(), LIMIT).unwrap();
        assert_eq!(store.list(|_| ()).unwrap().damaged, 0, "round {round}");
        for n in &present {
            let found = store.by_manifest(&Digest::sha256(n.to_string().as_bytes())).unwrap();
            assert!(found.is_some_and(|found| found.bundle == numbered(*n)), "round {round}: {n} is lost");
        }
        for n in &removed {
            assert!(store.by_chain(&chain(&n.to_string())).unwrap().is_none(), "round {round}: {n} is back");
        }
    }
    let put = (present.len() + removed.len()) as u64;
    assert!(put > ROUNDS / 2, "only {put} bundles were put in {ROUNDS} lives");
}

fn kill_after(moment: Duration, mut child: Child) -> std::thread::JoinHandle<ExitStatus> {
    std::thread::spawn(move || {
        std::thread::sleep(moment);
        child.kill().unwrap();
        child.wait().unwrap()
    })
}
