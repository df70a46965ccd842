//! `cvmfs-prefetch record --backend fanotify`, for kernels that refuse BPF.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bundles::phase::Phase;
use bundles::trace::{End, Trace, Use};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use testbed::containerd::{Containerd, ContainerdSpec};
use testbed::images;
use testbed::namespace::{SiteDirectory, cgroup_hierarchies, cgroup_parent, see_cgroups_of};
use testbed::node::{Node, NodeSpec};
use testbed::process::{Daemon, binary, run_command};
use testbed::requirement::Requirement;
use testbed::site::{Site, image_cache, with_round_trip};
use tracer_ebpf::cgroup::Version;

const LIMIT: Duration = Duration::from_secs(60);

fn command(containerd: &Containerd, image: &str, backend: &str, words: &[&str], output: &Path) -> Result<Command> {
    let mut record = Command::new(binary("cvmfs-prefetch")?);
    record.args(["record", image, "--timeout=120s", "--cgroup-parent", &cgroup_parent(), "--output"]).arg(output);
    record.arg("--cri-socket").arg(containerd.socket());
    // A killed recorder leaves its pod's directory there.
    record.env("TMPDIR", output.parent().context("a trace has a directory")?);
    record.args(["--allow-failure", "--backend", backend, "--"]).args(words);
    Ok(record)
}

fn record(node: &Node, image: &str, backend: &str, words: &[&str]) -> Result<Trace> {
    let output = node.directory().join(format!("{backend}.trace"));
    run_command(&mut command(&node.containerd, image, backend, words, &output)?)?;
    Ok(Trace::read(&output)?)
}

fn paths(trace: &Trace) -> BTreeSet<String> {
    trace.files.iter().map(|file| file.path.to_string()).collect()
}

/// Records the same container with fanotify and with BPF, and compares the traces.
async fn compare() -> Result<()> {
    let mut site = Site::start("site", with_round_trip(Duration::ZERO)).await?;
    let reference = site.publish(&images::whiteouts(&image_cache()?)?).await?;
    let node = Node::start(&site, "node", NodeSpec::default()).await?;
    let script = "cat /srv/replaced /srv/kept; cat /srv/merged/lower; cat /proc/self/stat > /dev/null; \
                  echo x > /tmp/made; exit 7";
    let words = ["/bin/sh", "-c", script];
    let trace = record(&node, &reference, "fanotify", &words)?;
    ensure!(trace.is_complete() && trace.end == End::Exited(7), "{trace:?}");
    ensure!(trace.recorder.contains("fanotify") && trace.recorder.contains("not seen"), "{}", trace.recorder);
    let first = trace.files.first().context("an empty trace")?;
    ensure!(first.how == Use::Exec && first.path.as_bytes() == b"/bin/busybox", "{first:?}");
    let known = ["/bin/busybox", "/srv/replaced", "/srv/kept", "/srv/merged/lower", "/tmp/made"];
    ensure!(paths(&trace) == known.map(String::from).into(), "{:?} of {trace:?}", paths(&trace));
    let bpf = record(&node, &reference, "bpf", &words)?;
    ensure!(!bpf.recorder.contains("fanotify"), "{bpf:?}");
    // BPF also sees the set-up by the runtime.
    let bpf = Trace {
        files: bpf.files.iter().filter(|file| bpf.phases.phase_at(file.at_us) != Phase::SetUp).cloned().collect(),
        ..bpf
    };
    ensure!(paths(&trace) == paths(&bpf), "{:?} of {bpf:?}", paths(&bpf));
    nothing_is_left()
}

/// Whether the pod of a recording is frozen.
fn is_frozen() -> bool {
    recordings().any(|pod| fs::read_to_string(pod.join("cgroup.freeze")).is_ok_and(|state| state == "1\n"))
}

/// The cgroups of pods that are recorded.
fn recordings() -> impl Iterator<Item = PathBuf> {
    let parents = cgroup_hierarchies().map(|hierarchy| hierarchy.join(cgroup_parent().trim_start_matches('/')));
    let inside = parents.flat_map(|parent| fs::read_dir(parent).into_iter().flatten().flatten());
    inside.map(|entry| entry.path()).filter(|path| path.is_dir())
}

/// Checks that no cgroup of a recording is left, frozen or not.
fn nothing_is_left() -> Result<()> {
    match recordings().next() {
        Some(pod) => bail!("{} is left", pod.display()),
        None => Ok(()),
    }
}

#[test]
fn a_failed_start_is_reported_and_leaves_nothing_frozen() {
    testbed::namespace::test(|| async {
        let site = Site::start("site", with_round_trip(Duration::ZERO)).await?;
        let node = Node::start(&site, "node", NodeSpec::default()).await?;
        let error =
            record(&node, site.sandbox_image(), "fanotify", &["/bin/none"]).err().context("the recording succeeded")?;
        ensure!(format!("{error:#}").contains("/bin/none"), "{error:#}");
        nothing_is_left()?;
        ensure!(node.containerd.cri().await?.sandboxes().await?.is_empty(), "a pod is left");
        Ok(())
    });
}

#[test]
fn an_interrupted_start_leaves_nothing_frozen() {
    testbed::namespace::test(|| async {
        let site = Site::start("site", with_round_trip(Duration::ZERO)).await?;
        let node = Node::start(&site, "node", NodeSpec::default()).await?;
        let output = node.directory().join("none.trace");
        let words = ["sleep", "1000"];
        let mut record = command(&node.containerd, site.sandbox_image(), "fanotify", &words, &output)?;
        let mut record = Daemon::start("record", &mut record, node.directory())?;
        record.wait_until("a frozen pod", LIMIT, is_frozen)?;
        // Delays the start, so that it can be interrupted.
        let containerd = Pid::from_raw(node.containerd.pid().context("no containerd")?.cast_signed());
        kill(containerd, Signal::SIGSTOP)?;
        kill(Pid::from_raw(record.pid().cast_signed()), Signal::SIGINT)?;
        let thawed = record.wait_until("the end of the start", LIMIT, || !is_frozen());
        kill(containerd, Signal::SIGCONT)?;
        thawed?;
        record.stop(LIMIT)?;
        nothing_is_left()?;
        ensure!(node.containerd.cri().await?.sandboxes().await?.is_empty(), "a pod is left: {}", record.log());
        Ok(())
    });
}

/// As described in `docs/src/recorder.md`; with cgroup version 1 the pod must be thawed first.
#[test]
fn the_frozen_pod_of_a_killed_recorder_can_be_removed() {
    testbed::namespace::test(|| async {
        see_cgroups_of(Version::V2)?;
        let site = Site::start("site", with_round_trip(Duration::ZERO)).await?;
        let node = Node::start(&site, "node", NodeSpec::default()).await?;
        let output = node.directory().join("none.trace");
        let words = ["sleep", "1000"];
        let mut record = command(&node.containerd, site.sandbox_image(), "fanotify", &words, &output)?;
        let mut runtime = node.containerd.cri().await?;
        let mut was_frozen = false;
        // The pod is frozen only for some milliseconds.
        for _ in 0..10 {
            let mut recorder = Daemon::start("record", &mut record, node.directory())?;
            recorder.wait_until("a frozen pod", LIMIT, is_frozen)?;
            recorder.kill()?;
            was_frozen |= is_frozen();
            for sandbox in runtime.sandboxes().await? {
                runtime.remove_pod(&sandbox).await?;
            }
            ensure!(runtime.sandboxes().await?.is_empty());
            if was_frozen {
                return Ok(());
            }
        }
        bail!("the recorder was never killed while the pod was frozen")
    });
}

#[test]
fn without_an_overlay_mount_the_error_names_it() {
    testbed::namespace::test(|| async {
        let mut site = Site::start("site", with_round_trip(Duration::ZERO)).await?;
        let reference = site.publish(&images::busybox(&image_cache()?)?).await?;
        let directory = SiteDirectory::new("native")?;
        let spec = ContainerdSpec {
            registries: vec![site.registry.address().to_owned()],
            default_snapshotter: "native".into(),
            sandbox_image: site.sandbox_image().to_owned(),
            ..ContainerdSpec::default()
        };
        let containerd = Containerd::start(&directory.path().join("containerd"), &spec).await?;
        let output = directory.path().join("none.trace");
        let error = run_command(&mut command(&containerd, &reference, "fanotify", &["sleep", "1000"], &output)?).err();
        let error = error.context("it was recorded")?.to_string();
        ensure!(error.contains("no overlay was mounted"), "{error}");
        nothing_is_left()?;
        ensure!(containerd.cri().await?.sandboxes().await?.is_empty(), "a pod is left");
        Ok(())
    });
}

#[test]
fn fanotify_records_the_same_files_as_bpf() {
    testbed::namespace::test(compare);
}

#[test]
fn fanotify_records_with_cgroup_v2_only() {
    testbed::namespace::test(|| async {
        see_cgroups_of(Version::V2)?;
        compare().await
    });
}

#[test]
fn fanotify_records_with_cgroup_v1_only() {
    testbed::namespace::test(|| async {
        if !see_cgroups_of(Version::V1)? {
            return Requirement::CgroupV1.missing("no hierarchy of version 1 is mounted");
        }
        compare().await
    });
}
