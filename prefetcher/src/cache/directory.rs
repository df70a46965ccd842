//! A cache directory, and the rules for what is made in it.
//!
//! ```text
//! <cache>/
//!   00/ ... ff/          objects: <2 hex>/<38 hex>, decompressed
//!   txn/                 half-written ones; a link from here makes an object visible
//!     cvmfs-prefetch.<pid>.<n>.<hash>            ours
//!     cvmfs-prefetch.<host>.<pid>.<n>.<hash>     ours, where several nodes write
//!   quarantaine/         the client's
//!   cvmfs-prefetch.unregistered      objects that the cache manager does not know, see `registrar`
//! ```
//!
//! Whoever makes `ff` must have made all other folders before: the client takes a cache with `ff` for complete, and with a folder
//! missing it does not start.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use bundles::object::ContentHash;
use nix::fcntl::OFlag;
use tracing::debug;

use super::error::CacheError;
use super::file_system::FileSystemKind;

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
pub struct Directory {
    /// The cache directory, which need not exist yet.
    pub dir: PathBuf,
    /// Who must be able to read what is made in it.
    pub rules: Rules,
    /// Exists while the client's tools reload clients or wipe their caches. Nothing is written then.
    pub pause: Option<PathBuf>,
}

impl Directory {
    pub(super) fn txn(&self) -> PathBuf {
        self.dir.join("txn")
    }

    pub(super) fn object(&self, hash: &ContentHash) -> PathBuf {
        self.dir.join(hash.cache_path())
    }

    /// The temporary file number `number` of this process, for an object.
    pub(super) fn temporary(&self, hash: &ContentHash, number: u64, kind: FileSystemKind) -> PathBuf {
        let name = format!("{}{}.{number}.{hash}", self.rules.temporary_prefix(), std::process::id());
        match (kind, self.object(hash).parent()) {
            (FileSystemKind::BeeGfs, Some(folder)) => folder.join(name),
            _ => self.txn().join(name),
        }
    }

    /// The directories that may have temporary files.
    pub(super) fn temporary_directories(&self, kind: FileSystemKind) -> Vec<PathBuf> {
        let folders = (kind == FileSystemKind::BeeGfs).then(|| self.folders());
        std::iter::once(self.txn()).chain(folders.into_iter().flatten()).collect()
    }

    /// The folders of objects, `ff` last.
    pub(super) fn folders(&self) -> impl Iterator<Item = PathBuf> {
        (0..=u8::MAX).map(|first| self.dir.join(format!("{first:02x}")))
    }

    /// Refuses to write while the client's tools reload clients or wipe their caches.
    pub(super) fn check_pause(&self) -> Result<(), CacheError> {
        match &self.pause {
            Some(pause) if fs::symlink_metadata(pause).is_ok() => Err(CacheError::Paused(pause.clone())),
            _ => Ok(()),
        }
    }

    /// Makes the directories of a cache that has none, as the client does.
    pub(super) fn make_layout(&self) -> Result<(), CacheError> {
        self.check_pause()?;
        if let Err(source) = fs::metadata(&self.dir) {
            return Err(failed("use the cache directory", &self.dir)(source));
        }
        self.make_dir(&self.dir.join("quarantaine"))?;
        self.make_dir(&self.txn())?;
        if !self.dir.join("ff").exists() {
            self.folders().try_for_each(|folder| self.make_dir(&folder))?;
        }
        Ok(())
    }

    /// Opens the file that is locked, so that other daemons do not remove our temporary files as abandoned.
    pub(super) fn open_lock(&self) -> io::Result<File> {
        match self.rules {
            Rules::Client => open_dir(&self.txn()),
            Rules::Group => {
                let name = format!("{TEMPORARY_PREFIX}{}", *HOST);
                let mut options = OpenOptions::new();
                options.write(true).create(true).truncate(false).mode(0o600).custom_flags(OFlag::O_NOFOLLOW.bits());
                options.open(self.txn().join(name))
            }
        }
    }

    /// Makes a directory below the cache as the client makes it, unless it exists.
    fn make_dir(&self, path: &Path) -> Result<(), CacheError> {
        match fs::DirBuilder::new().mode(self.rules.directory_mode()).create(path) {
            Ok(()) => {
                // By its descriptor: the owner of the cache could have put a link in its place.
                let made = open_dir(path).map_err(failed("open", path))?;
                // The process's umask may have taken bits away.
                let mode = Permissions::from_mode(self.rules.directory_mode());
                made.set_permissions(mode).map_err(failed("change the mode of", path))?;
                self.set_owner(&made, path)
            }
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
            Err(e) => Err(failed("create", path)(e)),
        }
    }

    /// Makes an empty temporary file with the mode and owner that the rules ask for.
    pub(super) fn make_file(&self, path: &Path) -> Result<File, CacheError> {
        let mode = self.rules.object_mode();
        let create = || OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
        let file = self.in_dir_of(path, create).map_err(failed("create", path))?;
        let mode_is_right = *UMASK & mode == 0;
        let mode_set = if mode_is_right { Ok(()) } else { file.set_permissions(Permissions::from_mode(mode)) };
        let owner_set = mode_set.map_err(failed("change the mode of", path)).and_then(|()| self.set_owner(&file, path));
        if let Err(error) = owner_set {
            remove(path);
            return Err(error);
        }
        Ok(file)
    }

    /// Gives a file or directory to the owner (as root) and group of the cache directory.
    pub(super) fn set_owner(&self, made: &File, path: &Path) -> Result<(), CacheError> {
        let is_root = nix::unistd::geteuid().is_root();
        if !is_root && self.rules == Rules::Client {
            return Ok(());
        }
        let owner = fs::metadata(&self.dir).map_err(failed("look at", &self.dir))?;
        let user = is_root.then(|| owner.uid());
        if user.is_none() && made.metadata().is_ok_and(|made| made.gid() == owner.gid()) {
            return Ok(());
        }
        fchown(made, user, Some(owner.gid())).map_err(failed("change the owner of", path))
    }

    /// Does `action`, which needs the directory of `path`. If it fails because something is missing, makes the directory and
    /// tries again.
    pub(super) fn in_dir_of<T>(&self, path: &Path, action: impl Fn() -> io::Result<T>) -> io::Result<T> {
        match action() {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                self.make_layout().map_err(io::Error::other)?;
                // A single folder that was removed: the client would not make it again, and cannot write without it.
                if let Some(dir) = path.parent() {
                    self.make_dir(dir).map_err(io::Error::other)?;
                }
                action()
            }
            result => result,
        }
    }
}

/// Opens a directory that must not be a link.
fn open_dir(path: &Path) -> io::Result<File> {
    let flags = (OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW).bits();
    OpenOptions::new().read(true).custom_flags(flags).open(path)
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
