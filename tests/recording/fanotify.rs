//! The backend without BPF: a container's pod is frozen until the container's root is marked, and never afterwards.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bundles::trace::{End, Use};
use nix::mount::{MsFlags, mount};
use testbed::requirement::Requirement;
use tracer_ebpf::cgroup::{Cgroup, Hierarchy, Version};
use tracer_ebpf::{Backend, Error, Options, Recorder, Target};

use crate::test_container::{Recorded, TestContainer, run};

const TIMEOUT: Duration = Duration::from_secs(30);

/// A pod with a container and a `pause` process, in the same cgroups as a container runtime would create.
struct Pod {
    version: Version,
    /// Provides the root file system. Its own cgroup is not used.
    root: TestContainer,
    recorder: Recorder,
    /// One in each hierarchy that matters.
    container_cgroups: Vec<Cgroup>,
    pause_cgroups: Vec<Cgroup>,
}

/// A `pause` process, which joins the pod's cgroup and then creates a file.
struct Pause {
    process: Child,
    file: PathBuf,
}

/// One pod for each version of cgroups that this host has.
fn pods() -> Result<Vec<Pod>> {
    let v2 = Pod::new(Version::V2)?;
    let v1 = Pod::new(Version::V1)?;
    if v1.is_none() {
        Requirement::CgroupV1.missing("no hierarchy of version 1 is mounted")?;
    }
    let pods: Vec<_> = v2.into_iter().chain(v1).collect();
    ensure!(!pods.is_empty(), "this host has no cgroups");
    Ok(pods)
}

impl Pod {
    /// None if this host does not have this version of cgroups.
    fn new(version: Version) -> Result<Option<Self>> {
        let options = Options { cgroups: Some(version), ..Options::default() };
        let Ok(identity) = Hierarchy::detect(options.cgroups) else { return Ok(None) };
        let freezer = match version {
            Version::V1 => vec![Hierarchy { version, mount_point: version_1_freezer()? }],
            Version::V2 => vec![],
        };
        let root = TestContainer::with_host_root()?;
        let name = Path::new("/").join(root.scratch.path().file_name().context("a name")?).with_extension("pod");
        let create = |name: PathBuf| -> Result<Vec<Cgroup>> {
            Ok([&identity].into_iter().chain(&freezer).map(|h| Cgroup::create(h, &name)).collect::<Result<_, _>>()?)
        };
        let pause_cgroups = create(name.join("pause"))?;
        let container_cgroups = create(name.join("container"))?;
        let recorder = Recorder::load_backend(Backend::Fanotify, options)?;
        Ok(Some(Self { version, root, recorder, container_cgroups, pause_cgroups }))
    }

    fn record(&self) -> Result<Recorded> {
        let cgroup = self.container_cgroups.first().context("no cgroup")?;
        self.root.follow(&self.recorder, &Target::New(cgroup.path().into()))
    }

    /// Mounts the container's root, as the runtime does when it starts the container.
    fn mount_root(&self) -> Result<()> {
        let point = self.root.scratch.path().join("own/container/rootfs");
        fs::create_dir_all(&point)?;
        Ok(mount(Some(&self.root.root), &point, None::<&str>, MsFlags::MS_BIND, None::<&str>)?)
    }

    /// The container's process: joins the container's cgroup, and enters a root of its own.
    fn command(&self, script: &str) -> Command {
        let enter = "cd \"$0\" && pivot_root . . && umount -l . && exec sh -c \"$1\"";
        let root = self.root.root.display().to_string();
        let words = ["unshare", "--mount", "--propagation=private", "sh", "-c", enter, &root, script];
        command_in(&self.container_cgroups, &words)
    }

    fn start_pause(&self) -> Result<Pause> {
        let file = self.root.scratch.path().join("created by pause");
        let process = command_in(&self.pause_cgroups, &["touch", &file.display().to_string()]).spawn()?;
        Ok(Pause { process, file })
    }

    /// Waits until the `pause` process has joined the pod and is frozen, and checks that it has not run.
    fn expect_frozen(&self, pause: &Pause) -> Result<()> {
        let cgroup = self.pause_cgroups.last().context("no cgroup")?.path();
        let id = pause.process.id().to_string();
        wait_until("the pause process is frozen", || {
            let processes = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
            processes.lines().any(|process| process == id) && is_frozen(cgroup, self.version)
        })?;
        ensure!(!pause.file.exists(), "the pause process ran before the container's root was mounted");
        Ok(())
    }
}

/// Whether all processes of a cgroup are frozen.
fn is_frozen(cgroup: &Path, version: Version) -> bool {
    let (file, frozen) = match version {
        Version::V1 => ("freezer.state", "FROZEN"),
        Version::V2 => ("cgroup.events", "frozen 1"),
    };
    fs::read_to_string(cgroup.join(file)).is_ok_and(|state| state.lines().any(|line| line == frozen))
}

/// A command that first joins all of `cgroups`.
fn command_in(cgroups: &[Cgroup], words: &[&str]) -> Command {
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
    let deadline = Instant::now() + TIMEOUT;
    while !holds() {
        ensure!(Instant::now() < deadline, "not within {TIMEOUT:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Waits for the end of a process, which is not frozen.
fn wait_for_exit(mut child: Child) -> Result<()> {
    wait_until("a process of the pod ends", || !matches!(child.try_wait(), Ok(None)))
}

#[test]
fn a_pod_is_frozen_until_the_containers_root_is_marked() -> Result<()> {
    for pod in pods()? {
        let recorded = pod.record()?;
        let pause = pod.start_pause()?;
        pod.expect_frozen(&pause)?;
        pod.mount_root()?;
        wait_for_exit(pause.process)?;
        ensure!(pause.file.exists(), "the pause process did not run");
        run(pod.command("cat /etc/passwd"))?;
        let trace = recorded.stop(End::Exited(0))?;
        let first = trace.files.first().context("an empty trace")?;
        ensure!(first.how == Use::Exec && first.path.name() == b"umount", "{trace:?}");
        ensure!(trace.files.iter().any(|file| file.path.as_bytes() == b"/etc/passwd"), "{trace:?}");
    }
    Ok(())
}

#[test]
fn a_dropped_recording_leaves_nothing_frozen() -> Result<()> {
    for pod in pods()? {
        let recorded = pod.record()?;
        let pause = pod.start_pause()?;
        pod.expect_frozen(&pause)?;
        drop(recorded);
        wait_for_exit(pause.process)?;
    }
    Ok(())
}

#[test]
fn a_container_without_an_overlay_fails_the_recording_and_runs_on() -> Result<()> {
    for pod in pods()? {
        let recorded = pod.record()?;
        // Stands for the container's first process, but nothing was mounted before it.
        wait_for_exit(command_in(&pod.container_cgroups, &["true"]).spawn()?)?;
        wait_until("the recording has failed", || recorded.recording.has_failed())?;
        let error = recorded.recording.stop(End::Stopped);
        ensure!(matches!(error, Err(Error::NoOverlay(_))), "{error:?}");
    }
    Ok(())
}
