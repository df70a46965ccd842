//! Opening what is below a mount, and nothing else.
//!
//! A repository's publisher decides what a path below the mount is. It may be a symbolic link that leads out of the mount, a FIFO of a
//! daemon of this node, or a device, and opening or reading one of these can block for ever or hurt its owner. So a path is first
//! [resolved](resolve) without opening it, and only regular files and directories are opened.
//!
//! All functions block for as long as the mount does: call them behind the guard of the mount ([`crate::mount`]).

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat};
use nix::sys::stat::Mode;

/// What happens to symbolic links in a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// They are followed, unless they lead out of the mount.
    Inside,
    /// They are refused.
    Refuse,
}

/// Symbolic links that a path may have. The kernel's own limit.
const MAX_LINKS: usize = 40;

/// A file or directory below a mount, found but not opened: its content is not read, and nothing of it is downloaded.
#[derive(Debug)]
pub struct Resolved {
    fd: OwnedFd,
    metadata: Metadata,
}

/// Finds `path` below `root`. A leading slash means `root`.
pub fn resolve(root: &Path, path: &Path, links: Links) -> io::Result<Resolved> {
    let root = File::open(root)?;
    let path = path.strip_prefix("/").unwrap_or(path);
    let fd = match by_kernel(&root, path, links) {
        // EAGAIN: something was renamed somewhere meanwhile, so the kernel is not sure of a `..` in a link.
        Err(Errno::ENOSYS | Errno::EPERM | Errno::EAGAIN) => by_components(&root, path, links)?,
        found => found?,
    };
    let metadata = File::from(fd.try_clone()?).metadata()?;
    Ok(Resolved { fd, metadata })
}

/// Whether the kernel itself keeps a path below a directory (Linux 5.6). Otherwise [`resolve`] looks at one component after the other.
pub fn is_resolved_by_kernel() -> bool {
    let resolved =
        File::open("/").map_err(|_| Errno::EIO).and_then(|root| by_kernel(&root, Path::new("."), Links::Refuse));
    !matches!(resolved, Err(Errno::ENOSYS | Errno::EPERM))
}

/// Reads the regular file `path` below `root`, which may have at most `max` bytes. Links are followed inside of `root`.
pub fn read(root: &Path, path: &Path, max: u64) -> io::Result<Vec<u8>> {
    resolve(root, path, Links::Inside)?.read(max)
}

impl Resolved {
    /// What it is.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// A path to exactly this file, for functions that take a path. It is valid as long as `self`.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.fd.as_raw_fd()))
    }

    /// Opens it for reading. What is neither a regular file nor a directory is refused.
    pub fn open(&self) -> io::Result<File> {
        if !self.metadata.is_file() && !self.metadata.is_dir() {
            return Err(io::Error::other("neither a regular file nor a directory"));
        }
        File::open(self.path())
    }

    /// Reads it, if it is a regular file of at most `max` bytes.
    pub fn read(&self, max: u64) -> io::Result<Vec<u8>> {
        if !self.metadata.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        let too_large = |size| Err(io::Error::other(format!("the file has {size} bytes, at most {max} are read")));
        if self.metadata.len() > max {
            return too_large(self.metadata.len());
        }
        let mut content = Vec::with_capacity(self.metadata.len() as usize);
        // The size in the metadata is only a hint: the file may be replaced while it is read.
        self.open()?.take(max + 1).read_to_end(&mut content)?;
        if content.len() as u64 > max { too_large(content.len() as u64) } else { Ok(content) }
    }
}

/// Fails with `ENOSYS` before Linux 5.6, and with `EPERM` where a filter of system calls is older than `openat2`, as systemd's in EL 8.
fn by_kernel(root: &File, path: &Path, links: Links) -> Result<OwnedFd, Errno> {
    let mut resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_XDEV | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    if links == Links::Refuse {
        resolve |= ResolveFlag::RESOLVE_NO_SYMLINKS;
    }
    openat2(root.as_fd(), path, OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(resolve))
}

/// The same without `openat2`, component by component.
fn by_components(root: &File, path: &Path, links: Links) -> io::Result<OwnedFd> {
    let device = root.metadata()?.dev();
    // The directories from the root to the current one, which `..` goes back to: the kernel's `..` could leave the root.
    let mut open: Vec<OwnedFd> = vec![root.as_fd().try_clone_to_owned()?];
    let mut rest = components(path);
    let mut followed = 0;
    while let Some(name) = rest.pop() {
        match name.as_bytes() {
            b"" | b"." => continue,
            b".." if open.len() == 1 => return Err(Errno::EXDEV.into()),
            b".." => {
                open.pop();
                continue;
            }
            _ => {}
        }
        let Some(parent) = open.last() else { return Err(Errno::EXDEV.into()) };
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = openat(parent.as_fd(), name.as_os_str(), flags, Mode::empty())?;
        let metadata = File::from(fd.try_clone()?).metadata()?;
        if metadata.dev() != device {
            return Err(Errno::EXDEV.into());
        }
        if !metadata.is_symlink() {
            open.push(fd);
            continue;
        }
        followed += 1;
        if links == Links::Refuse || followed > MAX_LINKS {
            return Err(Errno::ELOOP.into());
        }
        let target = readlinkat(fd.as_fd(), OsStr::new(""))?;
        if Path::new(&target).is_absolute() {
            return Err(Errno::EXDEV.into());
        }
        rest.extend(components(Path::new(&target)));
    }
    open.pop().ok_or_else(|| Errno::EXDEV.into())
}

/// The names of a path, the last first.
fn components(path: &Path) -> Vec<OsString> {
    path.as_os_str()
        .as_bytes()
        .split(|byte| *byte == b'/')
        .rev()
        .map(|name| OsStr::from_bytes(name).to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    type Resolve = fn(&File, &Path, Links) -> io::Result<OwnedFd>;
    const WAYS: [(&str, Resolve); 2] =
        [("openat2", |root, path, links| Ok(by_kernel(root, path, links)?)), ("components", by_components)];

    fn tree() -> tempfile::TempDir {
        let outside = tempfile::tempdir().unwrap();
        let root = outside.path().join("mount");
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(outside.path().join("secret"), "secret").unwrap();
        fs::write(root.join("a/b/file"), "content").unwrap();
        nix::unistd::mkfifo(&root.join("fifo"), Mode::S_IRWXU).unwrap();
        for (link, target) in [
            ("a/inside", "../a/b/file"),
            ("a/to-link", "inside"),
            ("out", "../secret"),
            ("a/out", "b/../../../secret"),
            ("absolute", "/etc/passwd"),
            ("proc", "/proc/self/root"),
            ("loop", "loop"),
            ("to-fifo", "fifo"),
        ] {
            symlink(target, root.join(link)).unwrap();
        }
        outside
    }

    #[test]
    fn links_are_followed_inside_only() {
        let outside = tree();
        let root = File::open(outside.path().join("mount")).unwrap();
        for (way, resolve) in WAYS {
            let inode = |path: &str, links| {
                resolve(&root, Path::new(path), links).map(|fd| File::from(fd).metadata().unwrap().ino())
            };
            let file = inode("a/b/file", Links::Refuse).unwrap();
            for path in ["a/inside", "a/to-link", "a/b/../b/file", "./a//b/file"] {
                assert_eq!(inode(path, Links::Inside).unwrap(), file, "{way}: {path}");
            }
            for path in ["out", "a/out", "absolute", "proc/etc/passwd", "../secret", "a/../../secret", "loop"] {
                assert!(inode(path, Links::Inside).is_err(), "{way}: {path}");
            }
            assert!(inode("a/inside", Links::Refuse).is_err(), "{way}");
            assert_eq!(inode("a/missing", Links::Inside).unwrap_err().kind(), io::ErrorKind::NotFound, "{way}");
            assert_eq!(inode("a/b/file/x", Links::Inside).unwrap_err().kind(), io::ErrorKind::NotADirectory, "{way}");
        }
    }

    #[test]
    fn links_are_followed_while_others_rename() {
        let outside = tree();
        let root = outside.path().join("mount");
        let (from, to) = (outside.path().join("x"), outside.path().join("y"));
        fs::write(&from, "").unwrap();
        let is_done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_done.load(std::sync::atomic::Ordering::Relaxed) {
                    fs::rename(&from, &to).unwrap();
                    fs::rename(&to, &from).unwrap();
                }
            });
            let read = (0..20_000).try_for_each(|_| read(&root, Path::new("a/inside"), 100).map(drop));
            // Before a failure ends this closure, or the other thread would never end.
            is_done.store(true, std::sync::atomic::Ordering::Relaxed);
            read.unwrap();
        });
    }

    #[test]
    fn only_regular_files_and_directories_are_opened() {
        let outside = tree();
        let root = outside.path().join("mount");
        assert_eq!(read(&root, Path::new("/a/to-link"), 7).unwrap(), b"content");
        assert!(read(&root, Path::new("a/to-link"), 6).unwrap_err().to_string().contains("at most 6"));
        assert!(read(&root, Path::new("a"), 100).unwrap_err().to_string().contains("not a regular file"));
        resolve(&root, Path::new("a"), Links::Refuse).unwrap().open().unwrap();
        // Opening the FIFO would block: it has no writer.
        for path in ["fifo", "to-fifo"] {
            assert!(read(&root, Path::new(path), 100).is_err());
            assert!(resolve(&root, Path::new(path), Links::Inside).unwrap().open().is_err());
        }
    }
}
