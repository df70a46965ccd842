//! `cvmfs-prefetch record --backend fanotify`, for kernels that refuse BPF.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bundles::trace::{End, Phase, Trace, Use};
use testbed::images;
use testbed::namespace::cgroup_parent;
use testbed::node::{Node, NodeSpec};
use testbed::process::{binary, run_command};
use testbed::site::{Site, image_cache, with_round_trip};

fn record(node: &Node, image: &str, backend: &str, script: &str) -> Result<Trace> {
    let output = node.directory().join(format!("{backend}.trace"));
    let mut record = Command::new(binary("cvmfs-prefetch")?);
    record.args(["record", image, "--time-limit=120s", "--cgroup-parent", &cgroup_parent(), "--output"]).arg(&output);
    record.arg("--cri-socket").arg(node.containerd.socket());
    record.args(["--backend", backend, "--", "/bin/sh", "-c", script]);
    run_command(&mut record)?;
    Ok(Trace::read(&output)?)
}

fn paths(trace: &Trace) -> BTreeSet<String> {
    trace.files.iter().map(|file| file.path.to_string()).collect()
}

#[test]
fn without_bpf_the_same_files_are_recorded_and_the_trace_says_how() {
    testbed::namespace::test(|| async {
        let mut site = Site::start("site", with_round_trip(Duration::ZERO)).await?;
        let reference = site.publish(&images::whiteouts(&image_cache()?)?).await?;
        let node = Node::start(&site, "node", NodeSpec::default()).await?;
        let script = "cat /srv/replaced /srv/kept; cat /srv/merged/lower; cat /proc/self/stat > /dev/null; \
                      echo x > /tmp/made; exit 7";
        let trace = record(&node, &reference, "fanotify", script)?;
        ensure!(trace.is_complete() && trace.end == End::Exited(7), "{trace:?}");
        ensure!(trace.recorder.contains("fanotify") && trace.recorder.contains("not seen"), "{}", trace.recorder);
        let first = trace.files.first().context("an empty trace")?;
        ensure!(first.how == Use::Exec && first.path.as_bytes() == b"/bin/busybox", "{first:?}");
        let known = ["/bin/busybox", "/srv/replaced", "/srv/kept", "/srv/merged/lower", "/tmp/made"];
        ensure!(paths(&trace) == known.map(String::from).into(), "{trace:?}");
        let bpf = record(&node, &reference, "bpf", script)?;
        ensure!(!bpf.recorder.contains("fanotify"), "{bpf:?}");
        // BPF sees the runtime's set-up as well.
        let bpf = Trace {
            files: bpf.files.iter().filter(|file| bpf.phases.of(file.at_us) != Phase::SetUp).cloned().collect(),
            ..bpf
        };
        ensure!(paths(&trace) == paths(&bpf), "{bpf:?}");
        Ok(())
    });
}
