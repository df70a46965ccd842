//! `cvmfs-prefetch record` of containers with known files.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bundles::phase::Phase;
use bundles::trace::{End, Trace, Use};
use testbed::images;
use testbed::namespace::cgroup_parent;
use testbed::node::{Node, NodeSpec};
use testbed::process::{binary, run_command};
use testbed::site::{Site, image_cache, with_round_trip};

/// The paths of a trace, in order of first use.
fn paths(trace: &Trace) -> Vec<String> {
    trace.files.iter().map(|file| file.path.to_string()).collect()
}

#[test]
fn a_trace_has_exactly_the_used_files_in_order_of_use() {
    testbed::namespace::test(|| async {
        let mut site = Site::start("site", with_round_trip(Duration::ZERO)).await?;
        let image = images::whiteouts(&image_cache()?)?;
        let reference = site.publish(&image).await?;
        let node = Node::start(&site, "node", NodeSpec::default()).await?;
        // Not in the order of names; /proc and a file created by the container do not belong to the image.
        let script = "cat /srv/replaced /srv/kept; cat /srv/merged/lower; cat /proc/self/stat > /dev/null; \
                      echo x > /tmp/made; cat /srv/kept; exit 7";
        let message = match node.record(&reference, &["/bin/sh", "-c", script]) {
            Ok(_) => bail!("the program's failure is not reported"),
            Err(error) => format!("{error:#}"),
        };
        ensure!(message.contains("exited with 7") && message.contains("--allow-failure"), "{message}");
        let trace = Trace::read(&node.directory().join("container.trace"))?;
        ensure!(trace.is_complete() && trace.end == End::Exited(7), "{trace:?}");
        ensure!(trace.image.chain_id == image.chain_id() && trace.image.manifest == Some(image.manifest_digest()));
        let seen: Vec<_> = paths(&trace).into_iter().filter(|path| path.starts_with("/srv")).collect();
        ensure!(seen == ["/srv/replaced", "/srv/kept", "/srv/merged/lower"], "{seen:?}");
        let all: BTreeSet<_> = paths(&trace).into_iter().collect();
        let known = ["/bin/busybox", "/srv/replaced", "/srv/kept", "/srv/merged/lower", "/tmp/made"];
        // The runtime looks up user and groups.
        let by_runtime = ["/etc/passwd", "/etc/group"];
        ensure!(all == known.into_iter().chain(by_runtime).map(String::from).collect(), "{all:?}");
        let phase = |path: &str| {
            let file = trace.files.iter().find(|file| file.path.as_bytes() == path.as_bytes());
            file.map(|file| trace.phases.phase_at(file.at_us))
        };
        ensure!(by_runtime.iter().all(|path| phase(path) == Some(Phase::SetUp)), "{trace:?}");
        ensure!(known.iter().all(|path| phase(path) == Some(Phase::StartUp)), "{trace:?}");
        let first = trace.files.get(by_runtime.len()).context("an empty trace")?;
        ensure!(first.how == Use::Exec && first.path.as_bytes() == b"/bin/busybox", "{first:?}");
        ensure!(first.process.pid != 0 && first.ranges.as_ref().is_some_and(|it| it.bytes_read() > 0), "{first:?}");
        let made = trace.files.iter().find(|file| file.path.as_bytes() == b"/tmp/made").context("no /tmp/made")?;
        ensure!(made.written && made.process.name == "sh", "{made:?}");
        ensure!(trace.files.iter().filter(|file| file.written).count() == 1, "{trace:?}");
        let kept = trace.files.iter().find(|file| file.path.name() == b"kept").context("no /srv/kept")?;
        ensure!(kept.how == Use::Open && kept.size == "kept of the lower layer\n".len() as u64, "{kept:?}");
        ensure!(trace.files.is_sorted_by_key(|file| file.at_us));

        let bundle = site.build_bundle(&[&node.directory().join("container.trace")])?;
        let json =
            run_command(Command::new(binary("cvmfs-prefetch")?).args(["bundle", "inspect"]).arg(bundle).arg("--json"))?;
        let bundle: serde_json::Value = serde_json::from_str(&json)?;
        ensure!(bundle["skipped"]["written"] == 1, "/tmp/made came from somewhere: {bundle}");
        Ok(())
    });
}

#[test]
fn a_running_container_is_stopped_when_the_recording_times_out() {
    testbed::namespace::test(|| async {
        let mut site = Site::start("site", with_round_trip(Duration::ZERO)).await?;
        let reference = site.publish(&images::busybox(&image_cache()?)?).await?;
        let node = Node::start(&site, "node", NodeSpec::default()).await?;
        let output = node.directory().join("long.trace");
        let mut record = Command::new(binary("cvmfs-prefetch")?);
        record.args(["record", &reference, "--timeout", "2s", "--cgroup-parent", &cgroup_parent(), "--output"]);
        record.arg(&output).arg("--cri-socket").arg(node.containerd.socket());
        record.args(["--", "/bin/sh", "-c", "cat /etc/passwd; exec sleep 1000"]);
        run_command(&mut record)?;
        let trace = Trace::read(&output)?;
        ensure!(trace.end == End::Timeout && trace.is_complete(), "{trace:?}");
        ensure!(paths(&trace).contains(&"/etc/passwd".to_owned()), "{trace:?}");
        ensure!(node.containerd.cri().await?.sandboxes().await?.is_empty(), "the recorded pod is left");
        Ok(())
    });
}

#[test]
fn an_image_that_cannot_be_recorded_is_reported() {
    testbed::namespace::test(|| async {
        let site = Site::start("site", with_round_trip(Duration::ZERO)).await?;
        let node = Node::start(&site, "node", NodeSpec::default()).await?;
        let missing = format!("{}/demo/none:1", site.registry.address());
        let message = |result: Result<_>| result.err().map(|error| format!("{error:#}")).context("it was recorded");
        let error = message(node.record(&missing, &["/bin/true"]))?;
        ensure!(error.contains("demo/none"), "{error}");
        ensure!(!node.directory().join("container.trace").exists(), "an empty trace was written");
        let error = message(node.record(site.sandbox_image(), &["/bin/none"]))?;
        ensure!(error.contains("/bin/none"), "{error}");
        ensure!(node.containerd.cri().await?.sandboxes().await?.is_empty(), "a pod is left");
        Ok(())
    });
}
