//! A run in namespaces leaves nothing behind, whatever ends it.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::mount::{MsFlags, mount};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use testbed::namespace::{self, SiteDirectory, cgroup_hierarchies};

/// Names the file to which a victim writes its run's directory once its resources exist.
const REPORT_VARIABLE: &str = "TEST_VICTIM_REPORT";
const LIMIT: Duration = Duration::from_secs(30);

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !condition() {
        assert!(Instant::now() < end, "{what} did not happen within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Creates a process, a mount, a cgroup in every hierarchy and files, and reports the run's directory.
fn create_resources() -> Result<()> {
    let site = SiteDirectory::new("site")?;
    let mounted = site.subdirectory("mounted")?;
    mount(Some("tmpfs"), &mounted, Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
    std::fs::write(mounted.join("file"), "x")?;
    std::fs::write(site.path().join("file"), "x")?;
    let cgroup = namespace::cgroup_parent();
    for hierarchy in cgroup_hierarchies() {
        let pod = hierarchy.join(cgroup.trim_start_matches('/')).join("pod/container");
        std::fs::create_dir_all(&pod).with_context(|| format!("cannot make {}", pod.display()))?;
    }
    // An orphan in its own session, like a containerd shim.
    let shell = Command::new("setsid").args(["--fork", "sleep", "1000"]).status()?;
    ensure!(shell.success());
    if let Some(report) = std::env::var_os(REPORT_VARIABLE) {
        let path = PathBuf::from(report);
        let mut file = File::create(path.with_extension("new"))?;
        write!(file, "{}", site.path().parent().unwrap().display())?;
        std::fs::rename(path.with_extension("new"), path)?;
    }
    Ok(())
}

/// A run of the same test that waits to be killed.
struct Victim {
    outer: Child,
    directory: PathBuf,
}

impl Victim {
    fn start(test: &str, scratch: &Path) -> Self {
        let report = scratch.join("report");
        let outer = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(REPORT_VARIABLE, &report)
            .env("TMPDIR", scratch)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_for("the victim's report", || report.exists());
        Self { outer, directory: std::fs::read_to_string(report).unwrap().into() }
    }

    fn cgroups(&self) -> Vec<PathBuf> {
        let name = self.directory.file_name().unwrap();
        cgroup_hierarchies().map(|h| h.join(name)).filter(|cgroup| cgroup.exists()).collect()
    }

    /// All processes of the run except the outer one: they inherit the variable with its directory.
    fn processes(&self) -> Vec<Pid> {
        let needle = format!("TESTBED_DIRECTORY={}", self.directory.display());
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
            if environment.split(|byte| *byte == 0).any(|variable| variable == needle.as_bytes()) {
                found.push(Pid::from_raw(entry.file_name().to_str().unwrap().parse().unwrap()));
            }
        }
        found
    }

    fn assert_alive(&self) {
        assert!(self.directory.join("site/file").exists());
        assert_eq!(self.cgroups().len(), cgroup_hierarchies().count());
        // unshare, init, body and the orphan; the environment of a process cannot be read during exec.
        wait_for("all four processes", || self.processes().len() >= 4);
    }

    fn wait_until_nothing_is_left(&self) {
        wait_for("the end of all processes", || self.processes().is_empty());
        wait_for("the removal of the directory", || !self.directory.exists());
        wait_for("the removal of the cgroups", || self.cgroups().is_empty());
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(self.directory.to_str().unwrap()));
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.outer.kill();
        let _ = self.outer.wait();
    }
}

async fn be_a_victim() -> Result<()> {
    create_resources()?;
    std::future::pending().await
}

fn is_victim() -> bool {
    std::env::var_os(REPORT_VARIABLE).is_some()
}

#[test]
fn a_run_that_ends_well_leaves_nothing() {
    if is_victim() {
        return namespace::test(|| async { create_resources() });
    }
    let scratch = tempfile::Builder::new().tempdir_in("/var/tmp").unwrap();
    let mut victim = Victim::start("namespace::a_run_that_ends_well_leaves_nothing", scratch.path());
    assert!(victim.outer.wait().unwrap().success());
    assert_eq!(victim.processes(), []);
    assert_eq!(victim.cgroups(), Vec::<PathBuf>::new());
    assert!(!victim.directory.exists());
}

#[test]
fn a_run_ended_by_a_signal_leaves_nothing() {
    if is_victim() {
        return namespace::test(|| async { be_a_victim().await });
    }
    for signal in [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGINT] {
        let scratch = tempfile::Builder::new().tempdir_in("/var/tmp").unwrap();
        let victim = Victim::start("namespace::a_run_ended_by_a_signal_leaves_nothing", scratch.path());
        victim.assert_alive();
        kill(Pid::from_raw(victim.outer.id() as i32), signal).unwrap();
        victim.wait_until_nothing_is_left();
    }
}

#[test]
fn the_next_run_cleans_up_after_one_killed_with_its_init() {
    if is_victim() {
        return namespace::test(|| async { be_a_victim().await });
    }
    let test = "namespace::the_next_run_cleans_up_after_one_killed_with_its_init";
    let scratch = tempfile::Builder::new().tempdir_in("/var/tmp").unwrap();
    let mut victim = Victim::start(test, scratch.path());
    victim.assert_alive();
    // unshare(1) is killed first: then the kernel kills init, which cannot clean up.
    let outer = Pid::from_raw(victim.outer.id() as i32);
    kill(outer, Signal::SIGSTOP).unwrap();
    for process in victim.processes() {
        let _ = kill(process, Signal::SIGKILL);
    }
    kill(outer, Signal::SIGKILL).unwrap();
    victim.outer.wait().unwrap();
    wait_for("the end of all processes", || victim.processes().is_empty());
    assert!(victim.directory.exists(), "the directory was removed although init was killed");

    std::fs::remove_file(scratch.path().join("report")).unwrap();
    let next = Victim::start(test, scratch.path());
    victim.wait_until_nothing_is_left();
    next.assert_alive();
}

#[test]
#[should_panic(expected = "ended with exit status: 101")]
fn a_failure_inside_fails_the_test() {
    namespace::test(|| async { anyhow::bail!("an expected failure") });
}

#[test]
fn the_body_sees_no_other_processes_and_an_empty_containerd_dir() {
    namespace::test(|| async {
        let processes = std::fs::read_dir("/proc")?.flatten();
        let pids = processes.filter(|entry| entry.file_name().to_string_lossy().parse::<u32>().is_ok());
        ensure!(pids.count() == 2, "init and the body see other processes");
        ensure!(std::fs::read_dir("/run/containerd")?.next().is_none());
        let group = namespace::cgroup_parent();
        ensure!(group.starts_with("/cvmfs-prefetch-testbed-"), "{group}");
        Ok(())
    });
}
