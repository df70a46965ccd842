//! A root file system on overlayfs and a cgroup, which make a plain process look like a container.
//!
//! All mounts are made in a mount namespace of the test's own thread, and disappear with the thread, however it ends.

use std::collections::BTreeSet;
use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use bundles::image::{ChainId, Digest, ImageId};
use bundles::trace::{End, FileUse, Trace};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;
use tracer_ebpf::cgroup::{Cgroup, Hierarchy};
use tracer_ebpf::{Options, Output, Recorder, Recording, Subject, Target};

/// An overlay root and a cgroup. Processes run in them by [`TestContainer::command`].
pub(crate) struct TestContainer {
    pub(crate) root: PathBuf,
    pub(crate) lower: PathBuf,
    pub(crate) cgroup: Cgroup,
    pub(crate) scratch: TempDir,
}

/// A running recording, and the file that its trace is written to.
pub(crate) struct Recorded {
    pub(crate) recording: Recording,
    pub(crate) trace: PathBuf,
}

impl TestContainer {
    /// A root with the host's bash, cat and their libraries, and the program `uses` (see `fixture`). `fill` adds files
    /// to the lower directory before it is mounted.
    pub(crate) fn new(fill: impl FnOnce(&Path) -> Result<()>) -> Result<Self> {
        Self::with_options(&Options::default(), fill)
    }

    /// The same, with a cgroup of the version that `options` select.
    pub(crate) fn with_options(options: &Options, fill: impl FnOnce(&Path) -> Result<()>) -> Result<Self> {
        let scratch = TempDir::with_prefix("tracer-test-")?;
        let lower = scratch.path().join("lower");
        fs::create_dir(&lower)?;
        create_root(&lower)?;
        fill(&lower)?;
        Self::mount(options, scratch, lower)
    }

    /// A root with the host's own root as lower directory, so with all its programs.
    pub(crate) fn with_host_root() -> Result<Self> {
        Self::mount(&Options::default(), TempDir::with_prefix("tracer-test-")?, "/".into())
    }

    fn mount(options: &Options, scratch: TempDir, lower: PathBuf) -> Result<Self> {
        unshare(CloneFlags::CLONE_NEWNS).context("cannot create a mount namespace: run as root")?;
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
        // The upper directory must not be inside the lower one.
        let own = scratch.path().join("own");
        fs::create_dir(&own)?;
        mount(Some("tmpfs"), &own, Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
        let [upper, work, root] = ["upper", "work", "root"].map(|name| own.join(name));
        for path in [&upper, &work, &root] {
            fs::create_dir(path)?;
        }
        let dirs = format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
        // Needed to open files by handle. The host's root may not support it.
        let handles = if lower == Path::new("/") { "" } else { ",index=on,nfs_export=on" };
        let mount_options = format!("{dirs}{handles}");
        mount(Some("overlay"), &root, Some("overlay"), MsFlags::empty(), Some(mount_options.as_str()))
            .context("an overlayfs mount")?;
        mount(Some("proc"), &root.join("proc"), Some("proc"), MsFlags::empty(), None::<&str>)?;
        let name = scratch.path().file_name().context("a name for the cgroup")?;
        let cgroup = Cgroup::create(&Hierarchy::detect(options.cgroups)?, &Path::new("/").join(name))?;
        Ok(Self { root, lower, cgroup, scratch })
    }

    pub(crate) fn record(&self, options: Options) -> Result<Recorded> {
        let target = Target::New(self.cgroup.path().into());
        self.follow(&Recorder::load(options)?, &target)
    }

    pub(crate) fn follow(&self, recorder: &Recorder, target: &Target) -> Result<Recorded> {
        let trace = self.scratch.path().join("trace");
        let recording = recorder.follow(target, subject(), output(&trace)?)?;
        Ok(Recorded { recording, trace })
    }

    /// Records one command, with default options.
    pub(crate) fn record_command(&self, argv: &[&str]) -> Result<Trace> {
        self.record_command_with(Options::default(), argv)
    }

    pub(crate) fn record_command_with(&self, options: Options, argv: &[&str]) -> Result<Trace> {
        let recorded = self.record(options)?;
        run(self.command(&[], argv))?;
        recorded.stop(End::Exited(0))
    }

    /// A command in the root and the cgroup. `wrapper` (strace and its options) runs all of it.
    pub(crate) fn command(&self, wrapper: &[&str], argv: &[&str]) -> Command {
        self.command_in(self.cgroup.path(), wrapper, argv)
    }

    /// A command in the root and another cgroup.
    pub(crate) fn command_in(&self, cgroup: &Path, wrapper: &[&str], argv: &[&str]) -> Command {
        let shell = ["sh", "-c", "echo $$ > \"$0\" && exec chroot \"$@\""];
        let mut words: Vec<_> = wrapper.iter().chain(&shell).map(PathBuf::from).collect();
        words.extend([cgroup.join("cgroup.procs"), self.root.clone()]);
        words.extend(argv.iter().map(PathBuf::from));
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdin(Stdio::null());
        command
    }
}

impl Recorded {
    pub(crate) fn stop(self, end: End) -> Result<Trace> {
        self.recording.stop(end)?;
        Ok(Trace::read(&self.trace)?)
    }
}

pub(crate) fn subject() -> Subject {
    let image = ImageId { chain_id: ChainId(Digest::sha256(b"x")), manifest: None, reference: "test/image:1".into() };
    Subject { image, command: Vec::new(), profile: String::new() }
}

pub(crate) fn output(path: &Path) -> Result<Output> {
    Ok(Box::new(fs::File::create(path)?))
}

impl Drop for TestContainer {
    /// Unmounts the file systems, so that the directory can be removed.
    fn drop(&mut self) {
        for path in [&self.root, &self.scratch.path().join("own")] {
            if let Err(error) = umount2(path, MntFlags::MNT_DETACH) {
                eprintln!("cannot unmount {}: {error}", path.display());
            }
        }
    }
}

pub(crate) fn write(root: &Path, files: &[(&str, &str)]) -> Result<()> {
    for (path, text) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().context("a file has a directory")?)?;
        fs::write(&path, text)?;
        fs::set_permissions(&path, PermissionsExt::from_mode(0o755))?;
    }
    Ok(())
}

pub(crate) fn run(mut command: Command) -> Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    Ok(())
}

pub(crate) fn paths(files: &[FileUse]) -> Vec<String> {
    files.iter().map(|file| file.path.to_string()).collect()
}

fn create_root(root: &Path) -> Result<()> {
    for directory in ["usr/bin", "usr/lib", "usr/lib64", "proc", "tmp", "mnt", "etc"] {
        fs::create_dir_all(root.join(directory))?;
    }
    for name in ["bin", "lib", "lib64"] {
        symlink(format!("usr/{name}"), root.join(name))?;
    }
    let programs = ["/bin/bash", "/bin/cat"];
    for program in programs {
        copy(root, Path::new(program))?;
    }
    for library in libraries(&programs)? {
        copy(root, &library)?;
    }
    fs::copy(uses()?, root.join("bin/uses"))?;
    Ok(())
}

/// Compiles the program `fixture/uses.c`.
pub(crate) fn uses() -> Result<PathBuf> {
    compiled("uses.c", include_bytes!("fixture/uses.c"), &["-O1", "-static", "-Wall"])
}

/// Compiles the source of a file in `fixture` with clang, unless that was done before, and returns the result's path.
pub(crate) fn compiled(name: &str, source: &[u8], arguments: &[&str]) -> Result<PathBuf> {
    let mut hasher = DefaultHasher::new();
    hasher.write(source);
    // Cargo sets this for tests, not for examples.
    let directory = option_env!("CARGO_TARGET_TMPDIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let program = directory.join(format!("{name}-{:016x}", hasher.finish()));
    if !program.exists() {
        // Renamed into place when complete, because tests run in parallel.
        let partial = TempDir::new_in(&directory)?;
        let compiled = partial.path().join("compiled");
        let source_file = partial.path().join(name);
        fs::write(&source_file, source)?;
        let clang = std::env::var("CLANG").unwrap_or_else(|_| "clang".into());
        let mut compile = Command::new(clang);
        compile.args(arguments).arg("-o").arg(&compiled).arg(source_file);
        run(compile)?;
        fs::rename(compiled, &program)?;
    }
    Ok(program)
}

fn copy(root: &Path, file: &Path) -> Result<()> {
    let to = root.join(file.strip_prefix("/")?);
    fs::create_dir_all(to.parent().context("a file has a directory")?)?;
    fs::copy(file, &to).with_context(|| file.display().to_string())?;
    Ok(())
}

/// The libraries and ELF interpreters of programs, according to `ldd`.
fn libraries(programs: &[&str]) -> Result<BTreeSet<PathBuf>> {
    let output = Command::new("ldd").args(programs).output()?;
    let words = String::from_utf8(output.stdout)?;
    // ldd prints each program's name and a colon before its libraries.
    let paths = words.split_whitespace().filter(|word| word.starts_with('/') && !word.ends_with(':'));
    Ok(paths.map(PathBuf::from).collect())
}
