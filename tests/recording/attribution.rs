//! Uses are attributed to the right container: all of its own uses, and none of a neighbour.

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bundles::phase::Phase;
use bundles::trace::{BlindSpots, End, Trace};
use testbed::requirement::Requirement;
use tracer_ebpf::cgroup::{Cgroup, Hierarchy, Version};
use tracer_ebpf::{Options, Recorder, Target};

use crate::test_container::{TestContainer, output, paths, run, subject, write};

/// The paths of opened files, without executed ones.
pub(crate) fn opened(trace: &Trace) -> Vec<String> {
    paths(&trace.files).into_iter().filter(|path| path.starts_with("/etc")).collect()
}

#[test]
fn neighbours_are_not_recorded_but_child_cgroups_are() -> Result<()> {
    for version in [Version::V2, Version::V1] {
        let options = Options { cgroups: Some(version), ..Options::default() };
        let Ok(hierarchy) = Hierarchy::detect(options.cgroups) else {
            if version == Version::V1 {
                return Requirement::CgroupV1.missing("no hierarchy of version 1 is mounted");
            }
            eprintln!("without cgroups of version 2 only version 1 is tested");
            continue;
        };
        let container = TestContainer::with_options(&options, |root| {
            write(root, &[("etc/mine", "m"), ("etc/other", "o"), ("etc/below", "b")])
        })?;
        let name = container.scratch.path().file_name().context("a name")?;
        let other = Cgroup::create(&hierarchy, &Path::new("/").join(name).with_extension("other"))?;
        let below = Cgroup::create(&hierarchy, &Path::new("/").join(name).join("below"))?;
        let recorded = container.record(options.clone())?;
        let elsewhere = TestContainer::with_options(&options, |root| write(root, &[("etc/other", "o")]))?;
        run(elsewhere.command_in(other.path(), &[], &["/bin/cat", "/etc/other"]))?;
        ensure!(!recorded.recording.has_started(), "a neighbour started the recording");
        run(container.command(&[], &["/bin/uses", "open:/etc/mine", "read:0,1:/etc/mine"]))?;
        ensure!(recorded.recording.has_started());
        run(container.command_in(other.path(), &[], &["/bin/uses", "open:/etc/other", "read:0,1:/etc/other"]))?;
        run(container.command_in(below.path(), &[], &["/bin/uses", "open:/etc/below"]))?;
        let trace = recorded.stop(End::Stopped)?;
        assert_eq!(opened(&trace), ["/etc/mine", "/etc/below"], "{version:?}");
        ensure!(trace.is_complete(), "{:?}", trace.faults());
        let kind = if version == Version::V1 { "cgroup v1" } else { "cgroup v2" };
        ensure!(trace.recorder.contains(kind), "{}", trace.recorder);
    }
    Ok(())
}

#[test]
fn uses_of_the_root_by_outside_processes_before_the_start_are_set_up() -> Result<()> {
    let container = TestContainer::new(|root| write(root, &[("etc/hook", "h"), ("etc/mine", "m"), ("etc/late", "l")]))?;
    let neighbour = TestContainer::new(|root| write(root, &[("etc/neighbour", "n")]))?;
    let recorded = container.record(Options::default())?;
    // As an OCI hook does: a process of the host uses the container's root.
    std::fs::read(container.root.join("etc/hook"))?;
    std::fs::read(neighbour.root.join("etc/neighbour"))?;
    run(container.command(&[], &["/bin/uses", "open:/etc/mine"]))?;
    std::fs::read(container.root.join("etc/late"))?;
    let trace = recorded.stop(End::Stopped)?;
    assert_eq!(opened(&trace), ["/etc/hook", "/etc/mine"]);
    let phase_and_known_process = |path: &str| {
        let file = trace.files.iter().find(|file| file.path.as_bytes() == path.as_bytes()).context("recorded")?;
        anyhow::Ok((trace.phases.phase_at(file.at_us), file.process.pid != 0))
    };
    assert_eq!(phase_and_known_process("/etc/hook")?, (Phase::SetUp, false));
    assert_eq!(phase_and_known_process("/etc/mine")?, (Phase::StartUp, true));
    Ok(())
}

/// Starts a program that waits in the root until `/tmp/go` exists, and then does `next_use`.
fn start_waiting(container: &TestContainer, next_use: &str) -> Result<Child> {
    let mut command = container.command(&[], &["/bin/uses", "open:/etc/before", "wait:/tmp/go", next_use]);
    let child = command.stdout(Stdio::null()).spawn()?;
    let begin = Instant::now();
    // The program is `uses` as soon as its root is not the host's.
    while std::fs::read_link(format!("/proc/{}/root", child.id()))? == Path::new("/") {
        ensure!(begin.elapsed() < Duration::from_secs(60), "the program did not start");
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(child)
}

#[test]
fn a_running_container_is_recorded_from_now_on() -> Result<()> {
    let container = TestContainer::new(|root| write(root, &[("etc/before", "b"), ("etc/after", "a")]))?;
    let mut child = start_waiting(&container, "open:/etc/after")?;
    let recorder = Recorder::load(Options::default())?;
    let recorded = container.follow(&recorder, &Target::Running(container.cgroup.path().into()))?;
    std::fs::write(container.root.join("tmp/go"), "")?;
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
fn two_containers_are_recorded_at_the_same_time_into_separate_traces() -> Result<()> {
    let with_file = |name: &str| {
        let file = format!("etc/{name}");
        TestContainer::new(|root| write(root, &[(&file, "x"), ("etc/both", "b")]))
    };
    let first = with_file("first")?;
    let second = with_file("second")?;
    let recorder = Recorder::load(Options::default())?;
    let recordings =
        [&first, &second].map(|container| container.follow(&recorder, &Target::New(container.cgroup.path().into())));
    run(second.command(&[], &["/bin/uses", "open:/etc/second", "open:/etc/both"]))?;
    run(first.command(&[], &["/bin/uses", "open:/etc/first", "open:/etc/both"]))?;
    let traces: Vec<_> =
        recordings.into_iter().map(|recorded| recorded?.stop(End::Exited(0))).collect::<Result<_>>()?;
    assert_eq!(opened(&traces[0]), ["/etc/first", "/etc/both"]);
    assert_eq!(opened(&traces[1]), ["/etc/second", "/etc/both"]);
    Ok(())
}

#[test]
fn a_new_container_is_recorded_from_before_its_first_process() -> Result<()> {
    let container = TestContainer::new(|root| write(root, &[("etc/mine", "m")]))?;
    let recorder = Recorder::load(Options { watch: true, ..Options::default() })?;
    let watch = recorder.watch()?;
    let name = container.scratch.path().file_name().context("a name")?;
    // As a runtime does: creates a cgroup with the container's id and starts its first process, before the watch reports it.
    let cgroup = Cgroup::create(recorder.hierarchy(), &Path::new("/").join(name).join("0123456789abcdef".repeat(4)))?;
    run(container.command_in(cgroup.path(), &[], &["/bin/uses", "open:/etc/mine", "read:0,1:/etc/mine"]))?;
    let begin = Instant::now();
    let new_container = loop {
        let new_container = watch.next(Duration::from_secs(10))?.context("no new container was reported")?;
        if recorder.hierarchy().directory(&new_container.cgroup) == cgroup.path() {
            break new_container;
        }
        // A container of another test or of this machine.
        drop(new_container);
        ensure!(begin.elapsed() < Duration::from_secs(60));
    };
    let path = container.scratch.path().join("new.trace");
    let recording = recorder.record(new_container, subject(), output(&path)?)?;
    recording.stop(End::Stopped)?;
    let trace = Trace::read(&path)?;
    assert_eq!(opened(&trace), ["/etc/mine"]);
    ensure!(trace.is_complete(), "{:?}", trace.faults());
    Ok(())
}
