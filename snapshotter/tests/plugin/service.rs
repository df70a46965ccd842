//! `deploy/systemd/cvmfs-prefetch-snapshotter.service` leaves enough rights. All tests of the built snapshotter have the unit's
//! capabilities; here the rest of the file system is read-only as well, and every system call is checked against the unit's filter.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::process::Command;

use snapshotter::config::Config;
use testbed::systemd::{ENDS_WITH_TRACER, PROTECTED, TRACED};

use crate::layers::{Pull, image};
use crate::process::{Snapshotter, UNIT};

#[tokio::test]
async fn it_works_with_the_rights_of_its_unit() {
    assert!(nix::unistd::geteuid().is_root(), "only root can do this; `make test` runs as root");
    assert_eq!(UNIT.settings("ProtectSystem"), ["strict"]);
    let mut snapshotter = Snapshotter::configured(&["one"], 60_000, "");
    let layers = image();
    layers[1..].iter().for_each(|layer| layer.publish(&snapshotter.path("one")));
    // A directory of another user, with the bit that passes its group on.
    let opaque = layers[1].layerfs(&snapshotter.path("one")).join("opaque");
    let owner = 4711;
    let mode = 0o2775;
    chown(&opaque, Some(owner), Some(owner)).unwrap();
    fs::set_permissions(&opaque, fs::Permissions::from_mode(mode)).unwrap();
    let trace = snapshotter.path("calls");
    let mut command = Command::new(PROTECTED[0]);
    command.args(&PROTECTED[1..]).arg(snapshotter.path("")).args(TRACED).arg(&trace).args(UNIT.rights());
    command.arg(ENDS_WITH_TRACER);
    snapshotter.run_by(command);

    let mut pull = Pull::new(&snapshotter).await;
    for layer in &layers {
        pull.layer(layer).await;
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

    // The started process is the system call tracer.
    let traced = Command::new("pgrep").args(["-P", &snapshotter.pid().to_string()]).output().unwrap();
    let counter = snapshotter.stop_process(String::from_utf8(traced.stdout).unwrap().trim().parse().unwrap());
    assert_eq!(counter("layers", "cvmfs"), 2);
    let trace = fs::read_to_string(&trace).unwrap();
    for call in ["mknodat", "fsetxattr", "fchown"] {
        assert!(trace.contains(call), "the snapshotter made no {call}");
    }
    assert_eq!(UNIT.refused(&trace, "cvmfs-prefetch-snapshotter"), [""; 0], "the unit's filter refuses these calls");
}

#[test]
fn the_unit_creates_the_directories_of_the_default_configuration() {
    let config = Config::default();
    let [state] = UNIT.settings("StateDirectory")[..] else { panic!("{UNIT:?}") };
    let [runtime] = UNIT.settings("RuntimeDirectory")[..] else { panic!("{UNIT:?}") };
    assert_eq!(config.root, std::path::Path::new("/var/lib").join(state));
    assert_eq!(config.socket.parent(), Some(&*std::path::Path::new("/run").join(runtime)));
}
