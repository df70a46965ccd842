//! The identity of a run: its name, its directory, and the lock that shows that it is alive.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};

/// Prefix of every run's name; the PID of the outer process follows.
pub(super) const PREFIX: &str = "cvmfs-prefetch-testbed-";
/// Prefix of a directory's name until it is locked.
pub(super) const UNLOCKED_PREFIX: &str = ".cvmfs-prefetch-testbed-";

pub(super) const ROLE_VARIABLE: &str = "TESTBED_ROLE";
pub(super) const DIRECTORY_VARIABLE: &str = "TESTBED_DIRECTORY";

/// Which of the three processes this one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Outer,
    Init,
    Body,
}

impl Role {
    pub(super) fn current() -> Self {
        match std::env::var(ROLE_VARIABLE).as_deref() {
            Ok("init") => Self::Init,
            Ok("body") => Self::Body,
            _ => Self::Outer,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Outer => "outer",
            Self::Init => "init",
            Self::Body => "body",
        }
    }
}

/// A run, known by its directory.
#[derive(Debug, Clone)]
pub(super) struct Run(PathBuf);

impl Run {
    /// Creates a new run of this (outer) process, with a locked directory. The caller must keep the lock.
    pub(super) fn create() -> Result<(Self, Flock<File>)> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let identity = format!("{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let unlocked = base().join(format!("{UNLOCKED_PREFIX}{identity}"));
        std::fs::create_dir(&unlocked).with_context(|| format!("cannot make {}", unlocked.display()))?;
        let lock = lock(&unlocked, FlockArg::LockShared)?;
        // It is locked before it gets its final name, so no other run takes it for a dead run's.
        let directory = base().join(format!("{PREFIX}{identity}"));
        std::fs::rename(&unlocked, &directory)?;
        Ok((Self(directory), lock))
    }

    /// The run of this process (init or body).
    pub(super) fn current() -> Result<Self> {
        let directory = std::env::var_os(DIRECTORY_VARIABLE)
            .context("not in a run: call this inside namespace::test or namespace::main")?;
        Ok(Self(directory.into()))
    }

    pub(super) fn directory(&self) -> &Path {
        &self.0
    }

    pub(super) fn name(&self) -> String {
        self.0.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// A second lock for init, which may outlive the outer process.
    pub(super) fn lock(&self) -> Result<Flock<File>> {
        lock(&self.0, FlockArg::LockShared)
    }
}

/// Parent directory of the runs' directories.
pub(super) fn base() -> PathBuf {
    std::env::var_os("TMPDIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from)
}

/// Locks a directory.
pub(super) fn lock(directory: &Path, how: FlockArg) -> Result<Flock<File>> {
    let file = File::open(directory).with_context(|| format!("cannot open {}", directory.display()))?;
    Flock::lock(file, how).map_err(|(_, errno)| errno).with_context(|| format!("cannot lock {}", directory.display()))
}
