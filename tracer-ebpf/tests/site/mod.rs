//! A root file system on overlayfs and a cgroup, so that a plain process is as good as a container.
//!
//! All mounts are made in a mount namespace of the test's own thread; they go with the thread, however it ends.

use std::collections::BTreeSet;
use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use bundles::trace::{End, FileUse};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;
use tracer::cgroup::Cgroup;
use tracer::{Options, Recorded, Recorder, Recording, Target};

/// An overlay root with the host's bash, cat and their libraries, and the program `uses` (see `tests/fixture`).
pub(crate) struct Site {
    pub(crate) root: PathBuf,
    pub(crate) cgroup: Cgroup,
    pub(crate) scratch: TempDir,
}

impl Site {
    /// `fill` adds to the lower layer before it is mounted.
    pub(crate) fn new(fill: impl FnOnce(&Path) -> Result<()>) -> Result<Self> {
        let scratch = TempDir::with_prefix("tracer-test-")?;
        let [lower, upper, work, root] = ["lower", "upper", "work", "root"].map(|name| scratch.path().join(name));
        for path in [&lower, &upper, &work, &root] {
            fs::create_dir(path)?;
        }
        make_root(&lower)?;
        fill(&lower)?;
        unshare(CloneFlags::CLONE_NEWNS).context("a mount namespace of its own: root is needed")?;
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
        let dirs = format!(
            "lowerdir={},upperdir={},workdir={},index=on,nfs_export=on",
            lower.display(),
            upper.display(),
            work.display()
        );
        mount(Some("overlay"), &root, Some("overlay"), MsFlags::empty(), Some(dirs.as_str()))
            .context("an overlayfs mount")?;
        mount(Some("proc"), &root.join("proc"), Some("proc"), MsFlags::empty(), None::<&str>)?;
        let name = scratch.path().file_name().context("a name for the cgroup")?;
        let cgroup = Cgroup::create(&Path::new("/").join(name))?;
        Ok(Self { root, cgroup, scratch })
    }

    pub(crate) fn record(&self, options: Options) -> Result<Recording> {
        Ok(Recorder::load_with(options)?.follow(Target::Cgroup(self.cgroup.path().into()))?)
    }

    /// Records one command.
    pub(crate) fn record_command(&self, argv: &[&str]) -> Result<Recorded> {
        let recording = self.record(Options::default())?;
        run(self.command(&[], argv))?;
        Ok(recording.stop(End::Exited(0))?)
    }

    /// A command in the root and in the cgroup. `before` (strace and its options) is put in front of all.
    pub(crate) fn command(&self, before: &[&str], argv: &[&str]) -> Command {
        self.command_in(self.cgroup.path(), before, argv)
    }

    /// The same in another cgroup.
    pub(crate) fn command_in(&self, cgroup: &Path, before: &[&str], argv: &[&str]) -> Command {
        let shell = ["sh", "-c", "echo $$ > \"$0\" && exec chroot \"$@\""];
        let mut words: Vec<_> = before.iter().chain(&shell).map(PathBuf::from).collect();
        words.extend([cgroup.join("cgroup.procs"), self.root.clone()]);
        words.extend(argv.iter().map(PathBuf::from));
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdin(Stdio::null());
        command
    }
}

impl Drop for Site {
    /// So that the directory can be removed.
    fn drop(&mut self) {
        if let Err(error) = umount2(&self.root, MntFlags::MNT_DETACH) {
            eprintln!("unmounting {}: {error}", self.root.display());
        }
    }
}

pub(crate) fn run(mut command: Command) -> Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    Ok(())
}

pub(crate) fn paths(files: &[FileUse]) -> Vec<String> {
    files.iter().map(|file| file.path.to_string()).collect()
}

fn make_root(root: &Path) -> Result<()> {
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

/// The program of `tests/fixture/uses.c`. It is compiled once, and again after a change.
pub(crate) fn uses() -> Result<PathBuf> {
    let mut hasher = DefaultHasher::new();
    hasher.write(include_bytes!("../fixture/uses.c"));
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let program = directory.join(format!("uses-{:016x}", hasher.finish()));
    if !program.exists() {
        // Appears complete or not at all; tests run side by side.
        let partial = TempDir::new_in(directory)?;
        let compiled = partial.path().join("uses");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixture/uses.c");
        let clang = std::env::var("CLANG").unwrap_or_else(|_| "clang".into());
        let mut compile = Command::new(clang);
        compile.args(["-O1", "-static", "-Wall", "-o"]).arg(&compiled).arg(source);
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

/// The libraries and the ELF interpreters of programs, as `ldd` finds them.
fn libraries(programs: &[&str]) -> Result<BTreeSet<PathBuf>> {
    let output = Command::new("ldd").args(programs).output()?;
    let words = String::from_utf8(output.stdout)?;
    // Before the libraries of each of several programs stands its name and a colon.
    let paths = words.split_whitespace().filter(|word| word.starts_with('/') && !word.ends_with(':'));
    Ok(paths.map(PathBuf::from).collect())
}
