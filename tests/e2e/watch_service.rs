//! `deploy/systemd/cvmfs-prefetch-watch.service`: its capabilities and sandboxing permit recording.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bundles::trace::Trace;
use testbed::images;
use testbed::node::{Node, NodeSpec};
use testbed::process::{Daemon, binary};
use testbed::site::{Site, image_cache, with_round_trip};

use testbed::systemd::{PROTECTED, Unit};

const UNIT: Unit = Unit(include_str!("../../deploy/systemd/cvmfs-prefetch-watch.service"));
const LIMIT: Duration = Duration::from_secs(60);

/// The unit's command with the unit's capabilities only, as systemd would start it.
fn service(state: &Path) -> Result<Command> {
    ensure!(UNIT.settings("ProtectSystem") == ["strict"]);
    let [line] = UNIT.settings("ExecStart")[..] else { bail!("{UNIT:?}") };
    let state_directory = state.display().to_string();
    let line = line.replace("/var/lib/cvmfs-prefetch", &state_directory).replace("$WATCH_OPTIONS", "");
    let mut words = line.split_whitespace();
    ensure!(words.next() == Some("/usr/bin/cvmfs-prefetch"));
    std::fs::create_dir(state)?;
    let mut command = Command::new(PROTECTED[0]);
    command.args(&PROTECTED[1..]).arg(state).args(UNIT.rights()).arg(binary("cvmfs-prefetch")?).args(words);
    Ok(command)
}

#[test]
fn watch_records_with_the_capabilities_of_its_unit() {
    testbed::namespace::test(|| async {
        let mut site = Site::start("site", with_round_trip(Duration::ZERO)).await?;
        let image = site.publish(&images::whiteouts(&image_cache()?)?).await?;
        let node = Node::start(&site, "node", NodeSpec::default()).await?;
        let state = node.directory().join("state");
        let mut command = service(&state)?;
        command.env("CONTAINER_RUNTIME_ENDPOINT", node.containerd.socket());
        let mut watch = Daemon::start("watch", &mut command, node.directory())?;
        let log = node.directory().join("watch.log");
        watch
            .wait_until("watching", LIMIT, || std::fs::read_to_string(&log).is_ok_and(|it| it.contains("watching")))?;
        node.output(&image, &["/bin/sh", "-c", "cat /srv/kept; cat /srv/merged/lower"]).await?;
        let traces = || -> Vec<PathBuf> {
            let images = std::fs::read_dir(state.join("traces")).into_iter().flatten().flatten();
            let files = images.flat_map(|image| std::fs::read_dir(image.path()).into_iter().flatten().flatten());
            files.map(|file| file.path()).filter(|path| path.extension().is_some_and(|it| it == "cpft")).collect()
        };
        watch.wait_until("a trace", LIMIT, || !traces().is_empty())?;
        let trace = Trace::read(traces().first().context("no trace")?)?;
        ensure!(trace.is_complete(), "{:?}\n{}", trace.faults(), watch.log());
        for path in ["/bin/busybox", "/srv/kept", "/srv/merged/lower"] {
            let file = trace.files.iter().find(|file| file.path.as_bytes() == path.as_bytes());
            let file = file.with_context(|| format!("no {path} in {trace:?}"))?;
            ensure!(file.ranges.as_ref().is_some_and(|ranges| ranges.bytes_read() > 0), "{file:?}");
        }
        ensure!(watch.stop(LIMIT)?.success(), "{}", watch.log());
        Ok(())
    });
}
