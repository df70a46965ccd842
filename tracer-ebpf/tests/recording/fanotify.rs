//! The recorder without BPF: a container's pod stands still until the container's root is marked, and never after.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bundles::trace::{End, Use};
use nix::mount::{MsFlags, mount};
use tracer_ebpf::cgroup::{Cgroup, Hierarchy, Version};
use tracer_ebpf::{Backend, Error, Options, Recorder, Target};

use crate::site::{Recorded, Site, run};

/// Long enough to see that something does not happen.
const A_WHILE: Duration = Duration::from_millis(300);
const LIMIT: Duration = Duration::from_secs(30);

/// A pod of two cgroups in all the hierarchies that matter, as a container runtime would make them.
struct Pod {
    site: Site,
    recorder: Recorder,
    container: Vec<Cgroup>,
    neighbour: Vec<Cgroup>,
}

/// A pod on this host by version 2 cgroups, and one by version 1.
fn pods() -> Result<Vec<Pod>> {
    let pods = [Version::Two, Version::One].into_iter().map(Pod::new).collect::<Result<Vec<_>>>()?;
    let pods: Vec<_> = pods.into_iter().flatten().collect();
    ensure!(!pods.is_empty(), "no cgroups here");
    Ok(pods)
}

impl Pod {
    /// None if this host has no such cgroups.
    fn new(version: Version) -> Result<Option<Self>> {
        let options = Options { cgroups: Some(version), ..Options::default() };
        let Ok(identity) = Hierarchy::of_host(&options) else { return Ok(None) };
        let freezer = match version {
            Version::One => vec![Hierarchy { version, point: version_1_freezer()? }],
            Version::Two => vec![],
        };
        let site = Site::of_host()?;
        let name = Path::new("/").join(site.scratch.path().file_name().context("a name")?).with_extension("pod");
        let make = |name: PathBuf| -> Result<Vec<Cgroup>> {
            Ok([&identity].into_iter().chain(&freezer).map(|h| Cgroup::create(h, &name)).collect::<Result<_, _>>()?)
        };
        let (neighbour, container) = (make(name.join("pause"))?, make(name.join("container"))?);
        let recorder = Recorder::load_backend(Backend::Fanotify, options)?;
        Ok(Some(Self { site, recorder, container, neighbour }))
    }

    fn record(&self) -> Result<Recorded> {
        let cgroup = self.container.first().context("no cgroup")?;
        self.site.follow(&self.recorder, &Target::New(cgroup.path().into()))
    }

    /// As the runtime does when it starts the container.
    fn mount_root(&self) -> Result<()> {
        let point = self.site.scratch.path().join("own/container/rootfs");
        fs::create_dir_all(&point)?;
        Ok(mount(Some(&self.site.root), &point, None::<&str>, MsFlags::MS_BIND, None::<&str>)?)
    }

    /// The container's process: goes into its cgroup, and to a root of its own.
    fn command(&self, script: &str) -> Command {
        let enter = "cd \"$0\" && pivot_root . . && umount -l . && exec sh -c \"$1\"";
        let root = self.site.root.display().to_string();
        within(&self.container, &["unshare", "--mount", "--propagation=private", "sh", "-c", enter, &root, script])
    }

    /// A process of the pod that is in no container, such as its `pause`, and the file that it makes when it runs.
    fn neighbour(&self) -> Result<(Child, PathBuf)> {
        let file = self.site.scratch.path().join("ran");
        let command = &mut within(&self.neighbour, &["touch", &file.display().to_string()]);
        Ok((command.spawn()?, file))
    }
}

/// `words` in all of `cgroups`.
fn within(cgroups: &[Cgroup], words: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "for c in $0; do echo $$ > $c/cgroup.procs || exit; done; exec \"$@\""]);
    let cgroups: Vec<_> = cgroups.iter().map(|cgroup| cgroup.path().display().to_string()).collect();
    command.arg(cgroups.join(" ")).args(words).stdin(Stdio::null());
    command
}

fn version_1_freezer() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts")?;
    let freezer = mounts.lines().find(|line| line.contains(" cgroup ") && line.contains(",freezer"));
    Ok(freezer.and_then(|line| line.split(' ').nth(1)).context("no version 1 freezer")?.into())
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) -> Result<()> {
    let end = Instant::now() + LIMIT;
    while !holds() {
        ensure!(Instant::now() < end, "not within {LIMIT:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Nothing holds it.
fn ends(mut child: Child) -> Result<()> {
    wait_until("a process of the pod goes on", || !matches!(child.try_wait(), Ok(None)))
}

#[test]
fn a_pod_stands_still_until_the_containers_root_is_marked() -> Result<()> {
    for pod in pods()? {
        let recorded = pod.record()?;
        let (neighbour, ran) = pod.neighbour()?;
        std::thread::sleep(A_WHILE);
        ensure!(!ran.exists(), "it ran before the root was there");
        pod.mount_root()?;
        ends(neighbour)?;
        ensure!(ran.exists());
        run(pod.command("cat /etc/passwd"))?;
        let trace = recorded.stop(End::Exited(0))?;
        let first = trace.files.first().context("an empty trace")?;
        ensure!(first.how == Use::Exec && first.path.name() == b"umount", "{trace:?}");
        ensure!(trace.files.iter().any(|file| file.path.as_bytes() == b"/etc/passwd"), "{trace:?}");
    }
    Ok(())
}

#[test]
fn a_recording_that_is_given_up_leaves_nothing_frozen() -> Result<()> {
    for pod in pods()? {
        let recorded = pod.record()?;
        let (neighbour, ran) = pod.neighbour()?;
        std::thread::sleep(A_WHILE);
        ensure!(!ran.exists(), "nothing was frozen");
        drop(recorded);
        ends(neighbour)?;
    }
    Ok(())
}

#[test]
fn a_container_without_an_overlay_is_told_at_once_and_goes_on() -> Result<()> {
    for pod in pods()? {
        let recorded = pod.record()?;
        // In place of the container's: its first process, but no mount before.
        ends(within(&pod.container, &["true"]).spawn()?)?;
        wait_until("the recording has failed", || recorded.recording.has_failed())?;
        let error = recorded.recording.stop(End::Stopped);
        ensure!(matches!(error, Err(Error::NoOverlay(_))), "{error:?}");
    }
    Ok(())
}
