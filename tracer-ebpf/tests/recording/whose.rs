//! Exactly one container: all of it, and nothing of a neighbour.

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bundles::phase::Phase;
use bundles::trace::{BlindSpots, End, Trace};
use tracer_ebpf::cgroup::{Cgroup, Hierarchy, Version};
use tracer_ebpf::{Options, Recorder, Target};

use crate::site::{Site, output, paths, run, subject, write};

/// Opened paths, without what was executed.
pub(crate) fn opened(trace: &Trace) -> Vec<String> {
    paths(&trace.files).into_iter().filter(|path| path.starts_with("/etc")).collect()
}

#[test]
fn neighbours_leave_nothing_and_cgroups_below_count() -> Result<()> {
    for version in [Version::Two, Version::One] {
        let options = Options { cgroups: Some(version), ..Options::default() };
        let Ok(hierarchy) = Hierarchy::of_host(&options) else {
            // A host has one of the two at least; the other may be missing.
            eprintln!("no cgroups of {version:?} here");
            continue;
        };
        let site =
            Site::by(&options, |root| write(root, &[("etc/mine", "m"), ("etc/other", "o"), ("etc/below", "b")]))?;
        let name = site.scratch.path().file_name().context("a name")?;
        let other = Cgroup::create(&hierarchy, &Path::new("/").join(name).with_extension("other"))?;
        let below = Cgroup::create(&hierarchy, &Path::new("/").join(name).join("below"))?;
        let recorded = site.record(options.clone())?;
        let elsewhere = Site::by(&options, |root| write(root, &[("etc/other", "o")]))?;
        run(elsewhere.command_in(other.path(), &[], &["/bin/cat", "/etc/other"]))?;
        ensure!(!recorded.recording.has_begun(), "a neighbour has begun the record");
        run(site.command(&[], &["/bin/uses", "open:/etc/mine", "read:0,1:/etc/mine"]))?;
        ensure!(recorded.recording.has_begun());
        run(site.command_in(other.path(), &[], &["/bin/uses", "open:/etc/other", "read:0,1:/etc/other"]))?;
        run(site.command_in(below.path(), &[], &["/bin/uses", "open:/etc/below"]))?;
        let trace = recorded.stop(End::Stopped)?;
        assert_eq!(opened(&trace), ["/etc/mine", "/etc/below"], "{version:?}");
        ensure!(trace.is_complete(), "{:?}", trace.faults());
        let kind = if version == Version::One { "cgroup v1" } else { "cgroup v2" };
        ensure!(trace.recorder.contains(kind), "{}", trace.recorder);
    }
    Ok(())
}

#[test]
fn what_others_do_on_the_root_before_the_start_is_set_up() -> Result<()> {
    let site = Site::new(|root| write(root, &[("etc/hook", "h"), ("etc/mine", "m"), ("etc/late", "l")]))?;
    let neighbour = Site::new(|root| write(root, &[("etc/neighbour", "n")]))?;
    let recorded = site.record(Options::default())?;
    // As an OCI hook does: a process of the host that acts on the container's root.
    std::fs::read(site.root.join("etc/hook"))?;
    std::fs::read(neighbour.root.join("etc/neighbour"))?;
    run(site.command(&[], &["/bin/uses", "open:/etc/mine"]))?;
    std::fs::read(site.root.join("etc/late"))?;
    let trace = recorded.stop(End::Stopped)?;
    assert_eq!(opened(&trace), ["/etc/hook", "/etc/mine"]);
    let of = |path: &str| {
        let file = trace.files.iter().find(|file| file.path.as_bytes() == path.as_bytes()).context("recorded")?;
        anyhow::Ok((trace.phases.phase_at(file.at_us), file.process.pid != 0))
    };
    assert_eq!(of("/etc/hook")?, (Phase::SetUp, false));
    assert_eq!(of("/etc/mine")?, (Phase::StartUp, true));
    Ok(())
}

/// A program that waits in the root until `/tmp/go` is there.
fn waiting(site: &Site, then: &str) -> Result<Child> {
    let mut command = site.command(&[], &["/bin/uses", "open:/etc/before", "wait:/tmp/go", then]);
    let child = command.stdout(Stdio::null()).spawn()?;
    let begin = Instant::now();
    // Its root is not the host's once it is in `uses`.
    while std::fs::read_link(format!("/proc/{}/root", child.id()))? == Path::new("/") {
        ensure!(begin.elapsed() < Duration::from_secs(60), "it does not begin");
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(child)
}

#[test]
fn a_container_that_runs_is_recorded_from_now_on() -> Result<()> {
    let site = Site::new(|root| write(root, &[("etc/before", "b"), ("etc/after", "a")]))?;
    let mut child = waiting(&site, "open:/etc/after")?;
    let recorder = Recorder::load(Options::default())?;
    let recorded = site.follow(&recorder, &Target::Running(site.cgroup.path().into()))?;
    std::fs::write(site.root.join("tmp/go"), "")?;
    ensure!(child.wait()?.success());
    let trace = recorded.stop(End::Stopped)?;
    assert_eq!(opened(&trace), ["/etc/after"]);
    ensure!(
        trace.blind_spots.has(BlindSpots::START) && !trace.is_complete() && trace.losses.total() == 0,
        "{:?}",
        trace.faults()
    );
    Ok(())
}

#[test]
fn several_containers_are_recorded_at_a_time_each_for_itself() -> Result<()> {
    let sites =
        ["one", "two"].map(|name| Site::new(|root| write(root, &[(&format!("etc/{name}"), "x"), ("etc/both", "b")])));
    let [one, two] = sites;
    let (one, two) = (one?, two?);
    let recorder = Recorder::load(Options::default())?;
    let recordings = [&one, &two].map(|site| site.follow(&recorder, &Target::New(site.cgroup.path().into())));
    run(two.command(&[], &["/bin/uses", "open:/etc/two", "open:/etc/both"]))?;
    run(one.command(&[], &["/bin/uses", "open:/etc/one", "open:/etc/both"]))?;
    let traces: Vec<_> =
        recordings.into_iter().map(|recorded| recorded?.stop(End::Exited(0))).collect::<Result<_>>()?;
    assert_eq!(opened(&traces[0]), ["/etc/one", "/etc/both"]);
    assert_eq!(opened(&traces[1]), ["/etc/two", "/etc/both"]);
    Ok(())
}

#[test]
fn a_new_container_is_met_before_it_begins() -> Result<()> {
    let site = Site::new(|root| write(root, &[("etc/mine", "m")]))?;
    let recorder = Recorder::load(Options { watch: true, ..Options::default() })?;
    let watch = recorder.watch()?;
    let name = site.scratch.path().file_name().context("a name")?;
    // As a runtime does: a cgroup named by the container's id, its first process, and only then do we hear of it.
    let cgroup = Cgroup::create(recorder.hierarchy(), &Path::new("/").join(name).join("0123456789abcdef".repeat(4)))?;
    run(site.command_in(cgroup.path(), &[], &["/bin/uses", "open:/etc/mine", "read:0,1:/etc/mine"]))?;
    let begin = Instant::now();
    let newcomer = loop {
        let newcomer = watch.next(Duration::from_secs(10)).context("nobody came")?;
        if recorder.hierarchy().directory(&newcomer.cgroup) == cgroup.path() {
            break newcomer;
        }
        // Another test's, or somebody else's on this machine.
        drop(newcomer);
        ensure!(begin.elapsed() < Duration::from_secs(60));
    };
    let path = site.scratch.path().join("met");
    let recording = recorder.adopt(newcomer, subject(), output(&path)?)?;
    recording.stop(End::Stopped)?;
    let trace = Trace::read(&path)?;
    assert_eq!(opened(&trace), ["/etc/mine"]);
    ensure!(trace.is_complete(), "{:?}", trace.faults());
    Ok(())
}
