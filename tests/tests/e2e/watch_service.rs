//! `deploy/systemd/cvmfs-prefetch-watch.service`: the rights it gives are enough.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bundles::trace::Trace;
use testbed::images;
use testbed::node::{Node, NodeSpec};
use testbed::process::{Daemon, binary};
use testbed::site::{Site, image_cache, with_round_trip};

const UNIT: &str = include_str!("../../../deploy/systemd/cvmfs-prefetch-watch.service");
const LIMIT: Duration = Duration::from_secs(60);

fn setting(name: &str) -> Result<&'static str> {
    let value = UNIT.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    value.with_context(|| format!("the unit has no {name}"))
}

/// As with `ProtectSystem=strict`: everything is read-only but the state directory, in a mount namespace of its own.
const PROTECTED: &str = "mkdir $0 && mount --bind $0 $0 && mount -o remount,bind,ro / && exec \"$@\"";

/// The unit's command with the unit's capabilities and no others, as systemd would start it.
fn service(state: &str) -> Result<Command> {
    let capabilities =
        setting("CapabilityBoundingSet")?.split(' ').map(|name| name.replace("CAP_", "+").to_lowercase());
    let capabilities = capabilities.fold("-all".to_owned(), |all, name| format!("{all},{name}"));
    let line = setting("ExecStart")?.replace("${STATE_DIRECTORY}", state).replace("$WATCH_OPTIONS", "");
    let mut words = line.split_whitespace();
    ensure!(words.next() == Some("/usr/bin/cvmfs-prefetch"));
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", PROTECTED, state, "setpriv", "--inh-caps=-all", "--no-new-privs"]);
    command.arg(format!("--bounding-set={capabilities}"));
    command.arg(binary("cvmfs-prefetch")?).args(words);
    Ok(command)
}

#[test]
fn with_the_rights_of_its_unit_it_records() {
    testbed::namespace::test(|| async {
        let mut site = Site::start("site", with_round_trip(Duration::ZERO)).await?;
        let image = site.publish(&images::whiteouts(&image_cache()?)?).await?;
        let node = Node::start(&site, "node", NodeSpec::default()).await?;
        let state = node.directory().join("state");
        let mut command = service(&state.display().to_string())?;
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
