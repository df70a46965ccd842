//! `cvmfs-prefetch watch` while containerd is restarted, and when the service is stopped: what the traces say about their end.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use bundles::trace::{End, Trace};
use testbed::images;
use testbed::node::{Node, NodeSpec};
use testbed::process::{Daemon, binary};
use testbed::site::{Site, image_cache, with_round_trip};

use crate::record_running::{LIMIT, start};

/// Uses `/srv/kept`, waits for `/tmp/go`, then uses `/srv/replaced` and ends.
const SCRIPT: &str = "cat /srv/kept; while [ ! -e /tmp/go ]; do sleep 0.05; done; cat /srv/replaced; exit 3";

fn traces(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let images = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let files = images.flat_map(|image| std::fs::read_dir(image.path()).into_iter().flatten().flatten());
    files.map(|file| file.path()).filter(|path| path.extension().is_some_and(|it| it == extension)).collect()
}

fn used(trace: &Trace, path: &str) -> bool {
    trace.files.iter().any(|file| file.path.as_bytes() == path.as_bytes())
}

/// A watcher that has begun to record a container of `node`.
async fn recording(site: &mut Site, node: &Node) -> Result<(Daemon, PathBuf, String)> {
    let image = site.publish(&images::whiteouts(&image_cache()?)?).await?;
    let output = node.directory().join("traces");
    let mut watch = Command::new(binary("cvmfs-prefetch")?);
    watch.args(["watch", "--timeout=10m", "--output"]).arg(&output).arg("--cri-socket").arg(node.containerd.socket());
    let mut watcher = Daemon::start("watch", &mut watch, node.directory())?;
    let log = node.directory().join("watch.log");
    let says = |text: &str| std::fs::read_to_string(&log).unwrap_or_default().contains(text);
    watcher.wait_until("watching", LIMIT, || says("watching"))?;
    let (_, id) = start(node, &image, "service", SCRIPT, Vec::new()).await?;
    watcher.wait_until("a recording", LIMIT, || {
        let partial = traces(&output, "partial");
        partial.iter().any(|path| Trace::read(path).is_ok_and(|trace| used(&trace, "/srv/kept")))
    })?;
    Ok((watcher, output, id))
}

#[test]
fn a_recording_outlives_a_restart_of_containerd() {
    testbed::namespace::test(|| async {
        let mut site = Site::start("site", with_round_trip(std::time::Duration::ZERO)).await?;
        let mut node = Node::start(&site, "node", NodeSpec::default()).await?;
        let (mut watcher, output, id) = recording(&mut site, &node).await?;
        node.containerd.restart().await?;
        let mut runtime = node.containerd.cri().await?;
        ensure!(traces(&output, "cpft").is_empty(), "the recording ended: {}", watcher.log());
        ensure!(runtime.exec(&id, &["/bin/touch", "/tmp/go"].map(String::from), LIMIT).await? == 0);
        watcher.wait_until("a trace", LIMIT, || !traces(&output, "cpft").is_empty())?;
        let trace = Trace::read(traces(&output, "cpft").first().context("no trace")?)?;
        ensure!(trace.is_complete() && trace.end == End::Exited(3), "{:?} {:?}", trace.end, trace.faults());
        ensure!(used(&trace, "/srv/kept") && used(&trace, "/srv/replaced"), "{trace:?}");
        ensure!(watcher.stop(LIMIT)?.success(), "{}", watcher.log());
        Ok(())
    });
}

#[test]
fn a_stopped_watch_marks_its_recordings_as_cut_short() {
    testbed::namespace::test(|| async {
        let mut site = Site::start("site", with_round_trip(std::time::Duration::ZERO)).await?;
        let node = Node::start(&site, "node", NodeSpec::default()).await?;
        let (mut watcher, output, _) = recording(&mut site, &node).await?;
        ensure!(watcher.stop(LIMIT)?.success(), "{}", watcher.log());
        let trace = Trace::read(traces(&output, "cpft").first().context("no trace")?)?;
        ensure!(trace.end == End::CutShort && !trace.is_complete(), "{:?} {:?}", trace.end, trace.faults());
        ensure!(used(&trace, "/srv/kept") && !used(&trace, "/srv/replaced"), "{trace:?}");
        Ok(())
    });
}

#[test]
fn a_killed_watch_leaves_a_prefix() {
    testbed::namespace::test(|| async {
        let mut site = Site::start("site", with_round_trip(std::time::Duration::ZERO)).await?;
        let node = Node::start(&site, "node", NodeSpec::default()).await?;
        let (mut watcher, output, _) = recording(&mut site, &node).await?;
        watcher.kill()?;
        ensure!(traces(&output, "cpft").is_empty(), "a killed recording has a trace");
        let prefix = Trace::read(traces(&output, "partial").first().context("no prefix")?)?;
        ensure!(matches!(prefix.end, End::Unfinished(_)) && !prefix.is_complete(), "{:?}", prefix.end);
        Ok(())
    });
}
