//! `deploy/systemd/cvmfs-prefetchd.service`: the rights that it leaves are enough. There is no systemd here, so what the unit
//! asks of it is done by other means: another user, no capability, everything read-only but what the unit names; and every system
//! call is seen to be one that its filter lets through.

#![allow(clippy::unwrap_used)]

mod site;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;
use prefetcher::api::RequestState;
use site::{Daemon, Object, Origin, Site, bundle, noise, objects};

const UNIT: &str = include_str!("../../deploy/systemd/cvmfs-prefetchd.service");
/// Some user without rights, in the place of `cvmfs`.
const USER: u32 = 65534;
/// As with `ProtectSystem=strict`: everything is read-only but the site's directory, in a mount namespace of its own.
const PROTECTED: &str = "mount --bind $0 $0 && mount -o remount,bind,ro / && exec \"$@\"";

fn settings(name: &str) -> Vec<&'static str> {
    UNIT.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('=')).collect()
}

/// The system calls of systemd's groups: `@name`, and below it calls and other groups.
fn groups() -> BTreeMap<String, Vec<String>> {
    let told = Command::new("systemd-analyze").args(["syscall-filter", "--no-pager"]).output().unwrap();
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut open = String::new();
    for line in String::from_utf8(told.stdout).unwrap().lines() {
        match line.trim() {
            "" => {}
            comment if comment.starts_with('#') => {}
            name if line.starts_with('@') => open = name.to_owned(),
            entry => groups.entry(open.clone()).or_default().push(entry.to_owned()),
        }
    }
    groups
}

fn calls_of(group: &str, groups: &BTreeMap<String, Vec<String>>) -> BTreeSet<String> {
    let entries = groups.get(group).unwrap_or_else(|| panic!("systemd knows no {group}"));
    let expanded = entries.iter().flat_map(|entry| match entry.starts_with('@') {
        true => calls_of(entry, groups),
        false => BTreeSet::from([entry.clone()]),
    });
    expanded.collect()
}

/// What the unit's filter lets through.
fn allowed() -> BTreeSet<String> {
    let groups = groups();
    let mut allowed = BTreeSet::new();
    for filter in settings("SystemCallFilter") {
        for group in filter.trim_start_matches('~').split(' ') {
            let calls = calls_of(group, &groups);
            match filter.starts_with('~') {
                true => allowed.retain(|call| !calls.contains(call)),
                false => allowed.extend(calls),
            }
        }
    }
    allowed
}

/// The system calls of a trace that `strace -f` wrote, after the daemon's own program began.
fn made(trace: &str) -> BTreeSet<String> {
    let from = trace.rfind("cvmfs-prefetchd\", [").map_or(0, |exec| exec + trace[exec..].find('\n').unwrap());
    let call = |line: &str| {
        let line = line.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ');
        let name = line.strip_prefix("<... ").unwrap_or(line).split(['(', ' ']).next()?;
        (!name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')).then(|| name.to_owned())
    };
    trace[from..].lines().filter_map(call).collect()
}

fn give(path: &Path) {
    chown(path, Some(USER), Some(USER)).unwrap();
    if path.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| give(&entry.unwrap().path()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_rights_of_its_unit_it_prefetches() {
    assert!(nix::unistd::geteuid().is_root(), "only root can do this; `make test` runs as root");
    assert_eq!((settings("CapabilityBoundingSet"), settings("NoNewPrivileges")), (vec![""], vec!["yes"]));
    assert_eq!((settings("ProtectSystem"), settings("User")), (vec!["strict"], vec!["cvmfs"]));
    let site = Site::new();
    let mut wanted = objects(60, 40);
    wanted.push(Object::new(&noise(9 << 20)));
    let origin = Origin::start(&wanted).await;
    let image = bundle("image", &wanted);
    site.publish(&image);
    let trace = site.path("calls");
    fs::write(&trace, "").unwrap();
    give(&site.path(""));

    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", PROTECTED]).arg(site.path(""));
    command.args(["strace", "-f", "-qq", "-e", "signal=none", "-s", "0", "-o"]).arg(&trace);
    command.args(["setpriv", &format!("--reuid={USER}"), &format!("--regid={USER}"), "--clear-groups"]);
    command.args(["--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"]);
    let mut daemon = Daemon::start_by(&site, &[&origin], command).await;
    let pid = Command::new("pgrep").args(["-P", &daemon.pid().to_string()]).output().unwrap();
    let pid = String::from_utf8(pid.stdout).unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", pid.trim())).unwrap();
    for line in ["CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1"] {
        assert!(status.contains(line), "{line} is not in\n{status}");
    }

    let status = daemon.prefetch_bundle(&image).await;
    assert_eq!(status.state(), RequestState::Done, "{status:?}");
    site.assert_cached(&wanted);
    assert_eq!(fs::metadata(site.cached(&wanted[0])).unwrap().uid(), USER);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.trim().parse().unwrap()), Signal::SIGTERM).unwrap();
    assert!(daemon.ended().await.success());

    let (made, allowed) = (made(&fs::read_to_string(&trace).unwrap()), allowed());
    assert!(made.len() > 30 && made.contains("renameat") | made.contains("rename"), "{made:?}");
    let refused: Vec<_> = made.difference(&allowed).collect();
    assert!(refused.is_empty(), "the unit's filter would refuse {refused:?}");
}
