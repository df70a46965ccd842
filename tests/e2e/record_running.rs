//! `cvmfs-prefetch record` and `watch` of containers that others start.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bundles::phase::Phase;
use bundles::trace::{BlindSpots, End, Trace};
use testbed::images;
use testbed::namespace::cgroup_parent;
use testbed::node::{Node, NodeSpec};
use testbed::process::{Daemon, binary};
use testbed::site::{FQRN, Site, image_cache, with_round_trip};
use tracer_ebpf::cri::pod::PodSpec;
use tracer_ebpf::cri::{ContainerSpec, MountSpec, Runtime, SandboxSpec};

use crate::support::files;

pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A pod whose container uses `/srv/kept`, waits for `/tmp/go`, then uses `/srv/replaced`, prints a line, and keeps running.
async fn service(node: &Node, image: &str, pod: &str) -> Result<(Runtime, String)> {
    let script =
        "cat /srv/kept; while [ ! -e /tmp/go ]; do sleep 0.05; done; cat /srv/replaced; echo up; exec sleep 1000";
    start(node, image, pod, script, Vec::new()).await
}

/// A pod whose container runs `script` with these directories of the host mounted.
pub(crate) async fn start(
    node: &Node,
    image: &str,
    pod: &str,
    script: &str,
    mounts: Vec<MountSpec>,
) -> Result<(Runtime, String)> {
    let mut runtime = node.containerd.cri().await?;
    runtime.pull(image).await?;
    let sandbox = SandboxSpec {
        name: pod.into(),
        namespace: "physics".into(),
        uid: pod.into(),
        cgroup_parent: cgroup_parent(),
        log_directory: node.directory().join("pods"),
        host_network: true,
        ..SandboxSpec::default()
    };
    let container = ContainerSpec {
        mounts,
        image: image.into(),
        name: "main".into(),
        command: Some(["/bin/sh", "-c", script].map(String::from).to_vec()),
        log_path: format!("{pod}.log"),
        ..ContainerSpec::default()
    };
    std::fs::create_dir_all(node.directory().join("pods"))?;
    let sandbox = runtime.run_sandbox(&sandbox).await?;
    let id = runtime.create_container(&sandbox, &container).await?;
    runtime.start(&id).await?;
    Ok((runtime, id))
}

/// Records a container from before `/tmp/go` until its line; returns the path of the trace.
pub(crate) async fn record_until_up(node: &Node, runtime: &mut Runtime, id: &str, options: &[&str]) -> Result<PathBuf> {
    let output = node.directory().join("analysis.trace");
    let mut record = Command::new(binary("cvmfs-prefetch")?);
    record.args(["record", "--container", id, "--until-line=^up$", "--output"]).arg(&output).args(options);
    record.arg("--cri-socket").arg(node.containerd.socket());
    let mut recorder = Daemon::start("analysis", &mut record, node.directory())?;
    let log = node.directory().join("analysis.log");
    let says = |text: &str| std::fs::read_to_string(&log).unwrap_or_default().contains(text);
    recorder.wait_until("recording", LIMIT, || says("recording"))?;
    ensure!(runtime.exec(id, &["/bin/touch", "/tmp/go"].map(String::from), LIMIT).await? == 0);
    wait_for(&mut recorder, &output)?;
    Ok(output)
}

/// Waits until a recorder has written its trace.
fn wait_for(recorder: &mut Daemon, output: &Path) -> Result<()> {
    // It may end between the two checks.
    recorder.wait_until("its trace", LIMIT * 2, || output.exists()).or_else(|error| match output.exists() {
        true => Ok(()),
        false => Err(error),
    })
}

fn used(trace: &Trace, path: &str) -> bool {
    trace.files.iter().any(|file| file.path.as_bytes() == path.as_bytes())
}

#[test]
fn a_running_container_is_recorded_by_id_pod_or_cgroup() {
    testbed::namespace::test(|| async {
        let mut site = Site::start("site", with_round_trip(Duration::ZERO)).await?;
        let image = images::whiteouts(&image_cache()?)?;
        let reference = site.publish(&image).await?;
        let node = Node::start(&site, "node", NodeSpec::default()).await?;
        for (number, way) in ["--container", "--pod", "--cgroup"].into_iter().enumerate() {
            let pod = format!("service-{number}");
            let (mut runtime, id) = service(&node, &reference, &pod).await?;
            let output = node.directory().join(format!("{pod}.trace"));
            let mut record = Command::new(binary("cvmfs-prefetch")?);
            record.args(["record", "--timeout=60s", "--output"]).arg(&output);
            record.arg("--cri-socket").arg(node.containerd.socket());
            match way {
                "--container" => record.args([way, &id, "--until-line=^up$"]),
                "--pod" => record.args([way, &format!("physics/{pod}"), "--until-ready=/bin/test -e /tmp/go"]),
                _ => record.args([way, &format!("{}/{id}", cgroup_parent()), &reference, "--until-settled=1/1s"]),
            };
            let mut recorder = Daemon::start(&pod, &mut record, node.directory())?;
            let log = node.directory().join(format!("{pod}.log"));
            let says = |text: &str| std::fs::read_to_string(&log).unwrap_or_default().contains(text);
            recorder.wait_until("recording", LIMIT, || says("recording"))?;
            ensure!(runtime.exec(&id, &["/bin/touch", "/tmp/go"].map(String::from), LIMIT).await? == 0);
            wait_for(&mut recorder, &output)?;
            let trace = Trace::read(&output)?;
            let end = match way {
                "--container" => End::LogLine,
                "--pod" => End::Ready,
                _ => End::Settled,
            };
            ensure!(trace.end == end && trace.image.chain_id == image.chain_id(), "{way}: {trace:?}");
            ensure!(
                trace.blind_spots.has(BlindSpots::START) && trace.losses.total() == 0,
                "{way}: {:?}",
                trace.faults()
            );
            ensure!(way == "--pod" || used(&trace, "/srv/replaced"), "{way}: {trace:?}");
            ensure!(!used(&trace, "/srv/kept"), "{way}: what was before is in it: {trace:?}");
            ensure!(runtime.container(&id).await?.is_some_and(|it| it.process.is_some()), "{way}: it was stopped");
        }
        Ok(())
    });
}

#[test]
fn files_of_a_mounted_repository_are_recorded_but_not_a_volumes() {
    testbed::namespace::test(|| async {
        let mut site = Site::start("site", with_round_trip(Duration::ZERO)).await?;
        let reference = site.publish(&images::busybox(&image_cache()?)?).await?;
        let other = files()?;
        site.publish(&other).await?;
        let node = Node::start(&site, "node", NodeSpec::default()).await?;
        let volume = node.directory().join("volume");
        std::fs::create_dir(&volume)?;
        std::fs::write(volume.join("thesis"), "secret")?;

        // A file that is not in the container's image.
        let layer = other.layers.last().context("a layer")?.digest.hex();
        let inside = format!("/cvmfs/{FQRN}");
        let file = format!("{inside}/.layers/{}/{layer}/layerfs/data/007", &layer[..2]);
        let mount = |host: PathBuf, container: &str| MountSpec { host, container: container.into(), read_only: true };
        let mounts = vec![mount(node.directory().join("cvmfs"), &inside), mount(volume, "/home")];
        let wait = "while [ ! -e /tmp/go ]; do sleep 0.05; done";
        let script = format!("{wait}; cat {file} > /dev/null; cat /home/thesis; echo; echo up; exec sleep 1000");
        let (mut runtime, id) = start(&node, &reference, "analysis", &script, mounts).await?;
        let output = record_until_up(&node, &mut runtime, &id, &["--keep-command"]).await?;
        let trace = Trace::read(&output)?;
        let repositories: Vec<_> = trace.repositories.iter().map(|it| (it.path.to_string(), it.name.clone())).collect();
        ensure!(repositories == [(inside, FQRN.to_owned())], "{repositories:?}");
        let found = trace.files.iter().find(|used| used.path.to_string() == file).context("it is not recorded")?;
        let read = found.ranges.as_ref().map_or(0, |ranges| ranges.bytes_read());
        ensure!(!found.written && read >= found.size && found.size > 0, "{found:?}");
        ensure!(trace.command == ["/bin/sh", "-c", &script], "{:?}", trace.command);
        let paths: Vec<_> = trace.files.iter().map(|file| file.path.to_string()).collect();
        ensure!(!paths.iter().any(|path| path.contains("thesis")) && trace.excluded.total() > 0, "{paths:?}");
        Ok(())
    });
}

#[test]
fn watched_pods_are_recorded_from_before_their_first_exec() {
    testbed::namespace::test(|| async {
        let mut site = Site::start("site", with_round_trip(Duration::ZERO)).await?;
        let cache = image_cache()?;
        let (recorded, other) = (images::whiteouts(&cache)?, images::busybox(&cache)?);
        let (recorded_name, other_name) = (site.publish(&recorded).await?, site.publish(&other).await?);
        let node = Node::start(&site, "node", NodeSpec::default()).await?;
        let traces = node.directory().join("traces");
        let mut watch = Command::new(binary("cvmfs-prefetch")?);
        watch.args(["watch", "--namespace=physics", "--label=app=root", "--image=whiteouts", "--output"]).arg(&traces);
        watch.arg("--cri-socket").arg(node.containerd.socket());
        let mut watcher = Daemon::start("watch", &mut watch, node.directory())?;
        let log = node.directory().join("watch.log");
        let says = |text: &str| std::fs::read_to_string(&log).unwrap_or_default().contains(text);
        watcher.wait_until("watching", LIMIT, || says("watching"))?;

        let mut runtime = node.containerd.cri().await?;
        let run = async |runtime: &mut Runtime, image: &str, namespace: &str, label: &str| -> Result<()> {
            let script = ["/bin/sh", "-c", "cat /srv/kept; cat /etc/passwd"];
            let mut pod = PodSpec::new(image, &script, &node.directory().join("pods"));
            std::fs::create_dir_all(node.directory().join("pods"))?;
            pod.sandbox.cgroup_parent = cgroup_parent();
            pod.sandbox.namespace = namespace.into();
            pod.sandbox.labels.insert("app".into(), label.into());
            runtime.run_pod(&pod).await.map(drop)?;
            Ok(())
        };
        run(&mut runtime, &other_name, "physics", "root").await?;
        run(&mut runtime, &recorded_name, "chemistry", "root").await?;
        run(&mut runtime, &recorded_name, "physics", "other").await?;
        for _ in 0..2 {
            run(&mut runtime, &recorded_name, "physics", "root").await?;
        }
        let found = || -> Vec<PathBuf> {
            let images = std::fs::read_dir(&traces).into_iter().flatten().flatten();
            let files = images.flat_map(|image| std::fs::read_dir(image.path()).into_iter().flatten().flatten());
            files.map(|file| file.path()).filter(|path| path.extension().is_some_and(|it| it == "cpft")).collect()
        };
        watcher.wait_until("two traces", LIMIT, || found().len() == 2)?;
        ensure!(watcher.stop(LIMIT)?.success(), "{}", watcher.log());
        let found = found();
        ensure!(found.len() == 2, "{found:?}");
        for path in found {
            let trace = Trace::read(&path)?;
            ensure!(trace.is_complete(), "{:?}\n{}", trace.faults(), watcher.log());
            ensure!(trace.image.chain_id == recorded.chain_id() && trace.end == End::Exited(0), "{trace:?}");
            let first = trace.files.iter().find(|file| trace.phases.phase_at(file.at_us) == Phase::StartUp);
            let first = first.context("nothing was started")?;
            ensure!(first.path.as_bytes() == b"/bin/busybox", "{first:?}");
            ensure!(used(&trace, "/srv/kept") && used(&trace, "/etc/passwd"), "{trace:?}");
        }
        Ok(())
    });
}
