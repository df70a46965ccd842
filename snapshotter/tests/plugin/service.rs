//! `deploy/systemd/cvmfs-prefetch-snapshotter.service`: the rights that it leaves are enough. All other tests of the built plugin have
//! its capabilities, too; here everything else is read-only, and every system call is seen to be one that its filter lets through.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::process::Command;

use snapshotter::config::Config;

use crate::layers::{CHAINS, Pull, image};
use crate::plugin::{Plugin, UNIT};
use crate::unit::{ENDS_WITH_TRACER, PROTECTED, TRACED};

#[tokio::test]
async fn with_the_rights_of_its_unit_it_serves() {
    assert!(nix::unistd::geteuid().is_root(), "only root can do this; `make test` runs as root");
    assert_eq!(UNIT.settings("ProtectSystem"), ["strict"]);
    let mut plugin = Plugin::configured(&["one"], 60_000, "");
    let layers = image();
    layers[1..].iter().for_each(|layer| layer.publish(&plugin.path("one")));
    // Belongs to somebody else, and passes on a group that is nobody's here.
    let (opaque, owner, mode) = (layers[1].layerfs(&plugin.path("one")).join("opaque"), 4711, 0o2775);
    chown(&opaque, Some(owner), Some(owner)).unwrap();
    fs::set_permissions(&opaque, fs::Permissions::from_mode(mode)).unwrap();
    let trace = plugin.path("calls");
    let mut command = Command::new(PROTECTED[0]);
    command.args(&PROTECTED[1..]).arg(plugin.path("")).args(TRACED).arg(&trace).args(UNIT.rights());
    command.arg(ENDS_WITH_TRACER);
    plugin.run_by(command);

    let mut pull = Pull::new(&plugin).await;
    for (layer, chain) in layers.iter().zip(CHAINS) {
        pull.layer(chain, layer).await;
    }
    assert_eq!(pull.lazy, [false, true, true]);
    let container = pull.container("container").await;
    assert_eq!(container.tree(), ["a/", "a/kept=x", "b/", "b/y=x", "opaque/", "opaque/new=x"]);
    let shown = fs::metadata(container.path().join("opaque")).unwrap();
    assert_eq!((shown.uid(), shown.gid(), shown.mode() & 0o7777), (owner, owner, mode));
    drop(container);
    pull.client.remove("k8s.io/9/container").await.unwrap();
    pull.client.cleanup().await.unwrap();
    drop(pull);

    // What was started is the tracer.
    let traced = Command::new("pgrep").args(["-P", &plugin.pid().to_string()]).output().unwrap();
    let counter = plugin.stop_process(String::from_utf8(traced.stdout).unwrap().trim().parse().unwrap());
    assert_eq!(counter("layers_from_cvmfs"), 2);
    let trace = fs::read_to_string(&trace).unwrap();
    for call in ["mknodat", "fsetxattr", "fchown"] {
        assert!(trace.contains(call), "the plugin made no {call}");
    }
    assert_eq!(UNIT.refused(&trace, "cvmfs-prefetch-snapshotter"), [""; 0], "the unit's filter would refuse them");
}

#[test]
fn the_unit_makes_the_directories_that_are_used_without_a_configuration() {
    let config = Config::parse("").unwrap();
    let [state] = UNIT.settings("StateDirectory")[..] else { panic!("{UNIT:?}") };
    let [runtime] = UNIT.settings("RuntimeDirectory")[..] else { panic!("{UNIT:?}") };
    assert_eq!(config.root, std::path::Path::new("/var/lib").join(state));
    assert_eq!(config.socket.parent(), Some(&*std::path::Path::new("/run").join(runtime)));
}
