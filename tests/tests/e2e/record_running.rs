//! `cvmfs-prefetch record` and `watch` of containers that somebody else starts.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bundles::trace::{End, Phase, Trace, Unseen};
use testbed::images;
use testbed::namespace::cgroup_parent;
use testbed::node::{Node, NodeSpec};
use testbed::process::{Daemon, binary};
use testbed::site::{Site, image_cache, with_round_trip};
use tracer::cri::pod::PodSpec;
use tracer::cri::{ContainerSpec, Runtime, SandboxSpec};

const LIMIT: Duration = Duration::from_secs(60);

/// A pod whose container uses `/srv/kept`, waits for `/tmp/go`, then uses `/srv/replaced`, says so, and goes on.
async fn service(node: &Node, image: &str, pod: &str) -> Result<(Runtime, String)> {
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
    let script =
        "cat /srv/kept; while [ ! -e /tmp/go ]; do sleep 0.05; done; cat /srv/replaced; echo up; exec sleep 1000";
    let container = ContainerSpec {
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

fn used(trace: &Trace, path: &str) -> bool {
    trace.files.iter().any(|file| file.path.as_bytes() == path.as_bytes())
}

#[test]
fn a_container_that_runs_is_recorded_by_its_id_its_pod_or_its_cgroup() {
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
            record.args(["record", "--time-limit=60s", "--output"]).arg(&output);
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
            recorder.wait_until("its trace", LIMIT * 2, || output.exists()).or_else(|error| {
                // It may end between the two.
                if output.exists() { Ok(()) } else { Err(error) }
            })?;
            let trace = Trace::read(&output)?;
            let end = match way {
                "--container" => End::Line,
                "--pod" => End::Ready,
                _ => End::Settled,
            };
            ensure!(trace.end == end && trace.image.chain_id == image.chain_id(), "{way}: {trace:?}");
            ensure!(trace.unseen.has(Unseen::START) && trace.lost.total() == 0, "{way}: {:?}", trace.faults());
            ensure!(way == "--pod" || used(&trace, "/srv/replaced"), "{way}: {trace:?}");
            ensure!(!used(&trace, "/srv/kept"), "{way}: what was before is in it: {trace:?}");
            ensure!(runtime.container(&id).await?.is_some_and(|it| it.process.is_some()), "{way}: it was stopped");
        }
        Ok(())
    });
}

#[test]
fn watched_pods_are_recorded_from_before_their_first_exec() {
    testbed::namespace::test(|| async {
        let mut site = Site::start("site", with_round_trip(Duration::ZERO)).await?;
        let cache = image_cache()?;
        let (wanted, other) = (images::whiteouts(&cache)?, images::busybox(&cache)?);
        let (wanted_name, other_name) = (site.publish(&wanted).await?, site.publish(&other).await?);
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
        run(&mut runtime, &wanted_name, "chemistry", "root").await?;
        run(&mut runtime, &wanted_name, "physics", "other").await?;
        for _ in 0..2 {
            run(&mut runtime, &wanted_name, "physics", "root").await?;
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
            ensure!(trace.image.chain_id == wanted.chain_id() && trace.end == End::Exited(0), "{trace:?}");
            let first = trace.files.iter().find(|file| trace.phases.of(file.at_us) == Phase::StartUp);
            let first = first.context("nothing was started")?;
            ensure!(first.path.as_bytes() == b"/bin/busybox", "{first:?}");
            ensure!(used(&trace, "/srv/kept") && used(&trace, "/etc/passwd"), "{trace:?}");
        }
        Ok(())
    });
}
