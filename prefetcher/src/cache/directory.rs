//! A cache directory, and the rules for what is made in it.
//!
//! ```text
//! <cache>/
//!   00/ ... ff/          objects: <2 hex>/<38 hex>, decompressed
//!   txn/                 half-written ones; a rename from here makes an object visible
//!     cvmfs-prefetch.<pid>.<n>            ours
//!     cvmfs-prefetch.<host>.<pid>.<n>     ours, where several nodes write
//! ```

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use bundles::object::ContentHash;
use tracing::debug;

use super::error::CacheError;

/// The prefix of the names of temporary files of any daemon.
pub const TEMPORARY_PREFIX: &str = "cvmfs-prefetch.";

/// Who owns a cache. That decides who must be able to read the files that are made in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rules {
    /// The client's own cache: only its user reads it.
    Client,
    /// An alien cache or a lower tier: the group of the directory reads it, on every node that mounts it.
    Group,
}

impl Rules {
    fn directory_mode(self) -> u32 {
        match self {
            Self::Client => 0o700,
            Self::Group => 0o770,
        }
    }

    fn object_mode(self) -> u32 {
        match self {
            Self::Client => 0o600,
            Self::Group => 0o660,
        }
    }

    /// The prefix of the names of this daemon's temporary files.
    pub fn temporary_prefix(self) -> String {
        match self {
            Self::Client => TEMPORARY_PREFIX.to_owned(),
            // Other nodes write here too, and process IDs repeat.
            Self::Group => format!("{TEMPORARY_PREFIX}{}.", *HOST),
        }
    }
}

/// This node's name, without characters that would make it look like a longer prefix.
static HOST: LazyLock<String> = LazyLock::new(|| {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let plain = name.trim().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' });
    plain.take(64).collect()
});

/// The umask of this process. All bits if the kernel does not show it.
static UMASK: LazyLock<u32> = LazyLock::new(|| {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let umask = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    umask.and_then(|umask| u32::from_str_radix(umask.trim(), 8).ok()).unwrap_or(0o777)
});

/// A cache directory and its rules.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) dir: PathBuf,
    pub(super) rules: Rules,
}

impl Directory {
    pub(super) fn txn(&self) -> PathBuf {
        self.dir.join("txn")
    }

    pub(super) fn object(&self, hash: &ContentHash) -> PathBuf {
        self.dir.join(hash.cache_path())
    }

    /// Opens the file that is locked, so that other daemons do not remove our temporary files as abandoned.
    pub(super) fn open_lock(&self) -> io::Result<File> {
        match self.rules {
            Rules::Client => File::open(self.txn()),
            Rules::Group => {
                let name = format!("{TEMPORARY_PREFIX}{}", *HOST);
                OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(self.txn().join(name))
            }
        }
    }

    /// Makes a directory below the cache as the client makes it, unless it exists.
    pub(super) fn make_dir(&self, path: &Path) -> Result<(), CacheError> {
        match fs::DirBuilder::new().mode(self.rules.directory_mode()).create(path) {
            Ok(()) => {
                // The process's umask may have taken bits away.
                let mode = Permissions::from_mode(self.rules.directory_mode());
                fs::set_permissions(path, mode).map_err(failed("change the mode of", path))?;
                self.set_owner(path, |uid, gid| std::os::unix::fs::lchown(path, uid, gid))
            }
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
            Err(e) => Err(failed("create", path)(e)),
        }
    }

    /// Makes an empty file in `txn` with the mode and owner that the rules ask for.
    pub(super) fn make_file(&self, path: &Path) -> Result<File, CacheError> {
        let mode = self.rules.object_mode();
        let create = || OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
        let file = self.with_dir(&self.txn(), create).map_err(failed("create", path))?;
        let mode_is_right = *UMASK & mode == 0;
        let mode_set = if mode_is_right { Ok(()) } else { file.set_permissions(Permissions::from_mode(mode)) };
        let owner_set = mode_set
            .map_err(failed("change the mode of", path))
            .and_then(|()| self.set_owner(path, |uid, gid| std::os::unix::fs::fchown(&file, uid, gid)));
        if let Err(error) = owner_set {
            remove(path);
            return Err(error);
        }
        Ok(file)
    }

    /// Gives a file or directory to the owner (as root) and group of the cache directory.
    fn set_owner(
        &self,
        path: &Path,
        chown: impl FnOnce(Option<u32>, Option<u32>) -> io::Result<()>,
    ) -> Result<(), CacheError> {
        let is_root = nix::unistd::geteuid().is_root();
        if !is_root && self.rules == Rules::Client {
            return Ok(());
        }
        let owner = fs::metadata(&self.dir).map_err(failed("look at", &self.dir))?;
        let user = is_root.then(|| owner.uid());
        if user.is_none() && fs::symlink_metadata(path).is_ok_and(|made| made.gid() == owner.gid()) {
            return Ok(());
        }
        chown(user, Some(owner.gid())).map_err(failed("change the owner of", path))
    }

    /// Does `action`, which needs the directory `dir`. If it fails because something is missing, makes the directory and tries again.
    pub(super) fn with_dir<T>(&self, dir: &Path, action: impl Fn() -> io::Result<T>) -> io::Result<T> {
        match action() {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                self.make_dir(dir).map_err(io::Error::other)?;
                action()
            }
            result => result,
        }
    }
}

/// Removes a temporary file.
pub(super) fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        debug!(path = %path.display(), %error, "temporary file not removed");
    }
}

pub(super) fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CacheError {
    let path = path.to_owned();
    move |source| CacheError::Io { action, path, source }
}
