//! `deploy/systemd/cvmfs-prefetchd.service`: the rights that it leaves are enough. Another user, no capability, everything read-only
//! but what the unit names; and every system call is seen to be one that its filter lets through.

#![allow(clippy::unwrap_used)]

mod site;

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;
use std::process::Command;

use api::proto::RequestState;
use nix::sys::signal::Signal;

use site::{Daemon, Object, Origin, Site, bundle, noise, objects};
use testbed::systemd::{ENDS_WITH_TRACER, PROTECTED, TRACED, Unit};

const UNIT: Unit = Unit(include_str!("../../deploy/systemd/cvmfs-prefetchd.service"));
/// Some user without rights, in the place of `cvmfs`.
const USER: u32 = 65534;

fn give(path: &Path) {
    chown(path, Some(USER), Some(USER)).unwrap();
    if path.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| give(&entry.unwrap().path()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_prefetches_with_the_rights_of_its_unit() {
    assert!(nix::unistd::geteuid().is_root(), "only root can do this; `make test` runs as root");
    assert_eq!((UNIT.settings("ProtectSystem"), UNIT.settings("User")), (vec!["strict"], vec!["cvmfs"]));
    let site = Site::new();
    let mut wanted = objects(60, 40);
    wanted.push(Object::new(&noise(9 << 20)));
    let origin = Origin::start(&wanted).await;
    let image = bundle("image", &wanted);
    site.publish(&image);
    let trace = site.path("calls");
    fs::write(&trace, "").unwrap();
    give(&site.path(""));

    let mut command = Command::new(PROTECTED[0]);
    command.args(&PROTECTED[1..]).arg(site.path("")).args(TRACED).arg(&trace).args(UNIT.rights());
    command.args([ENDS_WITH_TRACER, &format!("--reuid={USER}"), &format!("--regid={USER}"), "--clear-groups"]);
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

    let trace = fs::read_to_string(&trace).unwrap();
    assert!(trace.contains("link"), "{trace}");
    assert_eq!(UNIT.refused(&trace, "cvmfs-prefetchd"), [""; 0], "the unit's filter would refuse them");
}

/// A site whose files belong to [`USER`], with a published bundle.
async fn site_of_user() -> (Site, Origin, bundles::bundle::Bundle, Vec<Object>) {
    let (site, wanted) = (Site::new(), objects(61, 20));
    let origin = Origin::start(&wanted).await;
    let image = bundle("image", &wanted);
    site.publish(&image);
    give(&site.path(""));
    (site, origin, image, wanted)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_runs_on_one_cpu_and_on_hundreds() {
    let [tasks] = UNIT.settings("TasksMax")[..] else { panic!("{UNIT:?}") };
    // What the runtime takes for the number of CPUs unless it is given another.
    for (cpus, workers) in [("0", "1"), ("0-511", "512")] {
        let (site, origin, image, wanted) = site_of_user().await;
        let mut command = Command::new("taskset");
        command.args(["--cpu-list", cpus, "prlimit", &format!("--nproc={tasks}"), "setpriv"]);
        command.args([&format!("--reuid={USER}"), &format!("--regid={USER}"), "--clear-groups"]);
        command.env("TOKIO_WORKER_THREADS", workers);
        let mut daemon = Daemon::start_by(&site, &[&origin], command).await;
        let status = daemon.prefetch_bundle(&image).await;
        assert_eq!(status.state(), RequestState::Done, "{status:?}");
        site.assert_cached(&wanted);
        let threads = fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap().count();
        assert!(threads < 64, "{threads} threads with {workers} workers");
        daemon.signal(Signal::SIGTERM);
        assert!(daemon.ended().await.success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bundles_are_found_where_openat2_is_refused() {
    // Kernels before 5.6 do not know it; neither does the filter of EL 8's systemd, which answers as the unit says.
    assert_eq!(UNIT.settings("SystemCallErrorNumber"), ["EPERM"]);
    for error in ["ENOSYS", "EPERM"] {
        let (site, origin, image, wanted) = site_of_user().await;
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-e", "trace=openat2", "-e", &format!("inject=openat2:error={error}"), "-o"]);
        command.arg(site.path("calls")).args(["setpriv", ENDS_WITH_TRACER]);
        let daemon = Daemon::start_by(&site, &[&origin], command).await;
        let status = daemon.prefetch_bundle(&image).await;
        assert_eq!(status.state(), RequestState::Done, "{error}: {status:?}");
        site.assert_cached(&wanted);
        assert!(daemon.log().contains("no openat2"), "{error}: {}", daemon.log());
        assert!(fs::read_to_string(site.path("calls")).unwrap().contains("INJECTED"), "{error}");
    }
}
