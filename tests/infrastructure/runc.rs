//! What the fanotify recorder expects of runc and the cgroup freezers; see `tracer-ebpf/src/freezer.rs`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use testbed::images::busybox_binary;
use testbed::namespace::{self, SiteDirectory, cgroup_hierarchies, cgroup_parent, see_cgroups_of};
use testbed::requirement::Requirement;
use testbed::site::image_cache;
use tracer_ebpf::cgroup::Version;

/// How long a frozen container is observed. It must not run, so there is nothing to wait for but time.
const OBSERVED: Duration = Duration::from_millis(200);
const TIMEOUT: Duration = Duration::from_secs(30);

/// The pod's cgroup in the hierarchy with a freezer, the file that freezes a cgroup, and the values written to it.
struct Freezer {
    pod: PathBuf,
    file: &'static str,
    frozen: &'static str,
    thawed: &'static str,
}

impl Freezer {
    fn new(version: Version) -> Result<Self> {
        let (file, frozen, thawed) = match version {
            Version::V1 => ("freezer.state", "FROZEN", "THAWED"),
            Version::V2 => ("cgroup.freeze", "1", "0"),
        };
        let pods = cgroup_hierarchies().map(|hierarchy| hierarchy.join(cgroup_parent().trim_start_matches('/')));
        // In a hierarchy with a freezer, every cgroup but the root has the file.
        let pods: Vec<_> =
            pods.map(|pod| fs::create_dir_all(pod.join("container")).map(|()| pod)).collect::<Result<_, _>>()?;
        let pod = pods.into_iter().find(|pod| pod.join(file).exists()).context("no freezer")?;
        Ok(Self { pod, file, frozen, thawed })
    }

    fn write(&self, cgroup: &Path, text: &str) -> Result<()> {
        Ok(fs::write(cgroup.join(self.file), text)?)
    }
}

/// Starts a container that prints a line.
fn runc(site: &SiteDirectory) -> Result<Child> {
    let programs = site.subdirectory("bundle/rootfs/bin")?;
    fs::copy(busybox_binary(&image_cache()?)?, programs.join("busybox"))?;
    let config = json!({
        "ociVersion": "1.0.2",
        "process": { "user": { "uid": 0, "gid": 0 }, "cwd": "/", "args": ["/bin/busybox", "echo", "it runs"] },
        "root": { "path": "rootfs" },
        "mounts": [{ "destination": "/proc", "type": "proc", "source": "proc" }],
        "linux": {
            "cgroupsPath": format!("{}/container", cgroup_parent()),
            "namespaces": [{ "type": "pid" }, { "type": "mount" }],
        },
    });
    let bundle = site.path().join("bundle");
    fs::write(bundle.join("config.json"), config.to_string())?;
    let mut command = Command::new("runc");
    command.arg("--root").arg(site.subdirectory("runc")?).args(["run", "container", "--bundle"]).arg(bundle);
    Ok(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?)
}

fn a_container_waits_below_a_frozen_cgroup(version: Version) -> Result<()> {
    if !see_cgroups_of(version)? {
        return Requirement::CgroupV1.missing("no hierarchy of version 1 is mounted");
    }
    let (site, freezer) = (SiteDirectory::new("site")?, Freezer::new(version)?);
    let container = freezer.pod.join("container");
    freezer.write(&freezer.pod, freezer.frozen)?;
    let mut child = runc(&site)?;
    let end = Instant::now() + TIMEOUT;
    while fs::read_to_string(container.join("cgroup.procs")).unwrap_or_default().is_empty() {
        ensure!(child.try_wait()?.is_none(), "it was refused: {:?}", child.wait_with_output()?);
        ensure!(Instant::now() < end, "its first process never entered the frozen cgroup");
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(OBSERVED);
    ensure!(child.try_wait()?.is_none(), "it ran in a frozen cgroup: {:?}", child.wait_with_output()?);
    freezer.write(&freezer.pod, freezer.thawed)?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success() && output.stdout == b"it runs\n", "{output:?}");

    // The recorder cannot freeze the container's own cgroup instead: runc refuses it.
    fs::create_dir_all(&container)?;
    freezer.write(&container, freezer.frozen)?;
    let output = runc(&site)?.wait_with_output()?;
    let refused = String::from_utf8_lossy(&output.stderr).contains("frozen");
    ensure!(!output.status.success() && refused, "the recorder can become simpler: {output:?}");
    freezer.write(&container, freezer.thawed)
}

#[test]
fn a_container_waits_below_a_frozen_cgroup_v2() {
    namespace::test(|| async { a_container_waits_below_a_frozen_cgroup(Version::V2) });
}

#[test]
fn a_container_waits_below_a_frozen_cgroup_v1() {
    namespace::test(|| async { a_container_waits_below_a_frozen_cgroup(Version::V1) });
}
