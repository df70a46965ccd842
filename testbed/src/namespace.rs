//! Runs a test or a program in its own namespaces, so that its site leaves nothing behind however it ends.
//!
//! ```text
//! outer   the test as cargo started it; holds the lifeline (a pipe) and waits
//!   `- unshare(1)
//!        `- init    the same executable as process 1 of new PID, mount, IPC and UTS namespaces
//!             `- body    the same executable again: runs the test; everything it starts is below it
//! ```
//!
//! - The body ends, or the lifeline breaks because the outer process was killed: init kills every process of the PID
//!   namespace, detaches the site's mounts, removes its cgroups and its directory, and ends with the body's status.
//! - If init itself is killed, the kernel ends all its processes and mounts; the next run on this machine removes the directory
//!   and cgroups that are left.
//!
//! A run has a name, `cvmfs-prefetch-testbed-<outer pid>-<number>`, which is also the name of its directory (below
//! `$TMPDIR`, else `/var/tmp`, because overlayfs needs a disk file system) and of its cgroups.
//! With `TESTBED_KEEP=1` the directory is kept, under another name, to look at its logs.

mod cgroups;
mod init;
mod leftovers;
mod memory;
mod outer;
mod run;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};

use run::{Role, Run};

pub use cgroups::see_cgroups_of;
pub use leftovers::cgroup_hierarchies;
pub use memory::MemoryDirectory;

/// Runs `body` as the body of the calling test, which must be a `#[test]` function and `body` a closure in it (the
/// test is started again by its name).
///
/// # Panics
/// If the body fails, or if the namespaces cannot be made: a machine that refuses them fails the test.
pub fn test<F, T>(body: F)
where
    F: FnOnce() -> T,
    T: Future<Output = Result<()>>,
{
    let result = match Role::current() {
        Role::Outer => {
            let name = test_name::<F>();
            let arguments = ["--exact", &name, "--nocapture", "--include-ignored", "--test-threads=1"];
            outer::run(&arguments.map(Into::into), outer::Output::Captured).and_then(|status| {
                anyhow::ensure!(status.success(), "the test {name} ended with {status}; its output stands above");
                Ok(())
            })
        }
        Role::Init => init::run(),
        Role::Body => block_on(body),
    };
    if let Err(error) = result {
        panic!("{error:?}");
    }
}

/// Runs `body` as the body of a program; called by its `main`.
pub fn main<F, T>(body: F) -> ExitCode
where
    F: FnOnce() -> T,
    T: Future<Output = Result<()>>,
{
    let result = match Role::current() {
        Role::Outer => {
            let arguments: Vec<_> = std::env::args_os().skip(1).collect();
            outer::run(&arguments, outer::Output::Inherited)
                .map(|status| ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
        }
        Role::Init => init::run().map(|()| ExitCode::SUCCESS),
        Role::Body => block_on(body).map(|()| ExitCode::SUCCESS),
    };
    result.unwrap_or_else(|error| {
        // Without a backtrace: the message has to say what failed.
        eprintln!("error: {error}");
        error.chain().skip(1).for_each(|cause| eprintln!("  because: {cause}"));
        ExitCode::FAILURE
    })
}

/// The parent cgroup of the site's pods, as an absolute path in every hierarchy.
///
/// # Panics
/// Outside of a body.
pub fn cgroup_parent() -> String {
    match Run::current() {
        Ok(run) => format!("/{}", run.name()),
        Err(error) => panic!("{error:?}"),
    }
}

/// A directory of the site, removed when the run ends.
#[derive(Debug, Clone)]
pub struct SiteDirectory(PathBuf);

impl SiteDirectory {
    /// Creates the directory `name`; fails if it exists.
    pub fn new(name: &str) -> Result<Self> {
        let path = Run::current()?.directory().join(name);
        std::fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }

    /// The directory's path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Creates the subdirectory `name` if it does not exist; returns its path.
    pub fn subdirectory(&self, name: &str) -> Result<PathBuf> {
        let path = self.0.join(name);
        std::fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    }
}

fn block_on<F, T>(body: F) -> Result<()>
where
    F: FnOnce() -> T,
    T: Future<Output = Result<()>>,
{
    // More threads than cores: tests also make blocking calls, such as reading files of a mount.
    tokio::runtime::Builder::new_multi_thread().worker_threads(8).enable_all().build()?.block_on(body())
}

/// The test's name as libtest knows it: the name of its thread or, where libtest runs tests on the main thread, the path of the
/// closure without its crate.
fn test_name<F>() -> String {
    match std::thread::current().name() {
        Some(name) if name != "main" => name.to_owned(),
        _ => {
            let path = std::any::type_name::<F>().trim_end_matches("::{{closure}}");
            path.split_once("::").map_or(path, |(_crate, rest)| rest).to_owned()
        }
    }
}
