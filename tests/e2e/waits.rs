//! Containers that wait for their prefetch, as configured by `wait`.

use std::time::Duration;

use anyhow::{Context, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use testbed::node::{Node, NodeSpec};
use testbed::site::{Site, with_round_trip};

use crate::support::{READ_ALL, files, publish_bundle};

#[test]
fn a_container_waits_for_its_prefetch_but_not_for_a_hung_daemon() {
    testbed::namespace::test(|| async {
        let mut site = Site::start("site", with_round_trip(Duration::from_millis(5))).await?;
        let reference = site.publish(&files()?).await?;
        let first = Node::start(&site, "first", NodeSpec::default()).await?;
        let output = first.output(&reference, &READ_ALL).await?;
        publish_bundle(&mut site, &first, &reference, &READ_ALL)?;
        ensure!(
            !first.snapshotter_log().contains("waited for the prefetch"),
            "a container waited without configuration"
        );
        drop(first);
        for (wait, ends) in [
            ("critical", ["outcome=\"ready\""].as_slice()),
            ("adaptive", &["outcome=\"ready\"", "outcome=\"in_time\""]),
        ] {
            let node = Node::start(&site, wait, NodeSpec { wait, ..NodeSpec::default() }).await?;
            ensure!(node.output(&reference, &READ_ALL).await? == output, "the output differs");
            let log = node.snapshotter_log();
            let waited = log.lines().find(|line| line.contains("waited for the prefetch")).context(log.clone())?;
            ensure!(ends.iter().any(|end| waited.contains(end)), "{waited}");
            let daemon = Pid::from_raw(node.daemon.as_ref().context("the daemon runs")?.pid() as i32);
            kill(daemon, Signal::SIGSTOP)?;
            let outputs = [node.output(&reference, &READ_ALL).await, node.output(&reference, &READ_ALL).await];
            kill(daemon, Signal::SIGCONT)?;
            for again in outputs {
                ensure!(again? == output, "the output differs");
            }
            let failed = node.snapshotter_log().matches("outcome=\"failed\"").count();
            ensure!(failed == 1, "{failed} containers waited for a daemon that hangs:\n{}", node.snapshotter_log());
        }
        Ok(())
    });
}
