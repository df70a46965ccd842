//! `cvmfs-prefetch record` of services, which do not exit by themselves.

use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bundles::trace::{End, Trace};
use testbed::images;
use testbed::namespace::cgroup_parent;
use testbed::node::{Node, NodeSpec};
use testbed::process::{binary, run_command};
use testbed::site::{Site, image_cache, with_round_trip};

/// Records with these arguments after the image's name; the pod must be removed afterwards.
async fn record(node: &Node, image: &str, words: &[&str]) -> Result<Trace> {
    let output = node.directory().join("service.trace");
    let mut record = Command::new(binary("cvmfs-prefetch")?);
    record.args(["record", image, "--cgroup-parent", &cgroup_parent(), "--output"]).arg(&output);
    record.arg("--cri-socket").arg(node.containerd.socket()).args(words);
    run_command(&mut record)?;
    ensure!(node.containerd.cri().await?.sandboxes().await?.is_empty(), "the recorded pod is left");
    let trace = Trace::read(&output)?;
    ensure!(trace.is_complete(), "{trace:?}");
    Ok(trace)
}

fn used(trace: &Trace, path: &str) -> bool {
    trace.files.iter().any(|file| file.path.as_bytes() == path.as_bytes())
}

#[test]
fn a_service_is_recorded_until_it_logs_a_line() {
    testbed::namespace::test(|| async {
        let mut site = Site::start("site", with_round_trip(Duration::ZERO)).await?;
        let reference = site.publish(&images::busybox(&image_cache()?)?).await?;
        let node = Node::start(&site, "node", NodeSpec::default()).await?;
        let script = "echo getting ready; cat /etc/group > /dev/null; echo ready: 1 worker >&2; exec sleep infinity";
        let words = ["--timeout=120s", "--until-line=^ready: [0-9]", "--", "/bin/sh", "-c", script];
        let trace = record(&node, &reference, &words).await?;
        ensure!(trace.end == End::LogLine && used(&trace, "/etc/group"), "{trace:?}");
        Ok(())
    });
}

#[test]
fn a_service_is_recorded_until_its_port_accepts() {
    testbed::namespace::test(|| async {
        let mut site = Site::start("site", with_round_trip(Duration::ZERO)).await?;
        let reference = site.publish(&images::busybox(&image_cache()?)?).await?;
        let node = Node::start(&site, "node", NodeSpec::default()).await?;
        let other = TcpListener::bind("127.0.0.1:0")?;
        let port = other.local_addr()?.port();
        let until = format!("--until-port={port}");
        let script = format!("cat /etc/group > /dev/null; nc -l -p {port}; exec sleep infinity");
        let words = ["--timeout=120s", &until, "--", "/bin/sh", "-c", &script];
        let error =
            record(&node, &reference, &words).await.err().context("the port of another process was accepted")?;
        ensure!(format!("{error:#}").contains("answers already"), "{error:#}");
        drop(other);
        let trace = record(&node, &reference, &words).await?;
        ensure!(trace.end == End::Port(port) && used(&trace, "/etc/group"), "{trace:?}");
        Ok(())
    });
}

#[test]
fn an_image_with_its_own_command_is_recorded_until_it_settles() {
    testbed::namespace::test(|| async {
        let site = Site::start("site", with_round_trip(Duration::ZERO)).await?;
        let node = Node::start(&site, "node", NodeSpec::default()).await?;
        // The sandbox image only sleeps.
        let trace = record(&node, site.sandbox_image(), &[]).await?;
        ensure!(trace.end == End::Settled && used(&trace, "/bin/busybox"), "{trace:?}");
        let script = "cat /etc/group > /dev/null; exec sleep infinity";
        let words = ["--timeout=120s", "--until-settled=1/1s", "--", "/bin/sh", "-c", script];
        let trace = record(&node, site.sandbox_image(), &words).await?;
        ensure!(trace.end == End::Settled && used(&trace, "/etc/group"), "{trace:?}");
        Ok(())
    });
}
