//! Gives a complete temporary file its name in a cache, without replacing an object that is there.
//!
//! In an alien cache, other nodes may have that object open. On NFS they would get ESTALE, which a container sees as an I/O error.
//! So the file is linked to its name, and the temporary name removed after that. The CVMFS client does the same on NFS.
//!
//! An object of another size than ours, whose hash was verified, is damaged: a crash has cut it, for example. The client would
//! never notice, so it is replaced, whoever has it open: an I/O error is better than wrong content.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use tracing::warn;

static REPLACED: AtomicU64 = AtomicU64::new(0);

/// How an object got its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Published {
    /// There was none.
    New,
    /// The object was there and stays.
    Existed,
    /// A damaged object was there.
    Replaced,
}

/// Returns how many damaged objects were replaced since the start of the process.
pub fn replaced() -> u64 {
    REPLACED.load(Ordering::Relaxed)
}

/// Gives the complete file `temporary` the name `target`. The temporary name may stay.
pub(super) fn publish(temporary: &Path, target: &Path) -> io::Result<Published> {
    match link(temporary, target) {
        Ok(()) => Ok(Published::New),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => keep_or_replace(temporary, target),
        Err(error) => Err(error),
    }
}

fn link(temporary: &Path, target: &Path) -> io::Result<()> {
    match fs::hard_link(temporary, target) {
        // The reply to a request over NFS was lost, and the request repeated.
        Err(e) if e.kind() == ErrorKind::AlreadyExists && is_same_file(temporary, target) => Ok(()),
        Err(e) if has_no_links(&e) => rename(temporary, target),
        result => result,
    }
}

/// Whether this error says that the file system has no links.
fn has_no_links(error: &io::Error) -> bool {
    let errors = [Errno::EPERM, Errno::EOPNOTSUPP, Errno::ENOSYS, Errno::EMLINK, Errno::EXDEV];
    error.raw_os_error().is_some_and(|code| errors.contains(&Errno::from_raw(code)))
}

/// Renames without replacing.
fn rename(temporary: &Path, target: &Path) -> io::Result<()> {
    match renameat_with(CWD, temporary, CWD, target, RenameFlags::NOREPLACE).map_err(io::Error::from) {
        // The file system cannot do that either. Another node may make the object right between these two calls.
        Err(e) if [Some(Errno::EINVAL as i32), Some(Errno::ENOSYS as i32)].contains(&e.raw_os_error()) => {
            match fs::symlink_metadata(target) {
                Ok(_) => Err(ErrorKind::AlreadyExists.into()),
                Err(_) => fs::rename(temporary, target),
            }
        }
        result => result,
    }
}

fn keep_or_replace(temporary: &Path, target: &Path) -> io::Result<Published> {
    let (size, found) = (fs::metadata(temporary)?.len(), fs::symlink_metadata(target)?);
    // Some file systems show the size of a new file late, so the content decides.
    if found.is_file() && (found.len() == size || has_same_content(temporary, target)?) {
        return Ok(Published::Existed);
    }
    let found_size = found.len();
    warn!(path = %target.display(), size, found_size, "an object in the cache is damaged, replacing it");
    fs::rename(temporary, target)?;
    REPLACED.fetch_add(1, Ordering::Relaxed);
    Ok(Published::Replaced)
}

fn is_same_file(a: &Path, b: &Path) -> bool {
    let file = |path| fs::symlink_metadata(path).map(|found| (found.dev(), found.ino())).ok();
    file(a).is_some_and(|a| Some(a) == file(b))
}

fn has_same_content(a: &Path, b: &Path) -> io::Result<bool> {
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
    let open = |path| OpenOptions::new().read(true).custom_flags(flags).open(path);
    let (mut a, mut b) = (open(a)?, open(b)?);
    let (mut piece, mut other) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    loop {
        let (read, other_read) = (fill(&mut a, &mut piece)?, fill(&mut b, &mut other)?);
        if piece[..read] != other[..other_read] {
            return Ok(false);
        }
        if read == 0 {
            return Ok(true);
        }
    }
}

/// Reads until `buffer` is full or the file ends.
fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_right_object_keeps_its_inode_and_a_damaged_one_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let (temporary, target) = (dir.path().join("temporary"), dir.path().join("target"));
        for (present, expected, content) in [
            (None, Published::New, "right"),
            (Some("RIGHT"), Published::Existed, "RIGHT"),
            (Some("rig"), Published::Replaced, "right"),
            (Some(""), Published::Replaced, "right"),
        ] {
            fs::write(&temporary, "right").unwrap();
            let _ = fs::remove_file(&target);
            if let Some(content) = present {
                fs::write(&target, content).unwrap();
            }
            let before = fs::metadata(&target).map(|found| found.ino()).ok();
            assert_eq!(publish(&temporary, &target).unwrap(), expected, "{present:?}");
            assert_eq!(fs::read_to_string(&target).unwrap(), content, "{present:?}");
            let has_changed = Some(fs::metadata(&target).unwrap().ino()) != before;
            assert_eq!(has_changed, expected != Published::Existed, "{present:?}");
        }
        assert!(replaced() >= 2);
    }

    #[test]
    fn a_link_or_fifo_in_the_place_of_an_object_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (temporary, target) = (dir.path().join("temporary"), dir.path().join("target"));
        let elsewhere = dir.path().join("elsewhere");
        fs::write(&elsewhere, "other").unwrap();
        std::os::unix::fs::symlink(&elsewhere, &target).unwrap();
        fs::write(&temporary, "right").unwrap();
        assert_eq!(publish(&temporary, &target).unwrap(), Published::Replaced);
        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "other");
        fs::remove_file(&target).unwrap();
        nix::unistd::mkfifo(&target, nix::sys::stat::Mode::S_IRWXU).unwrap();
        fs::write(&temporary, "right").unwrap();
        assert_eq!(publish(&temporary, &target).unwrap(), Published::Replaced);
        assert_eq!(fs::read_to_string(&target).unwrap(), "right");
    }

    #[test]
    fn without_links_a_rename_does_not_replace_either() {
        let dir = tempfile::tempdir().unwrap();
        let (temporary, target) = (dir.path().join("temporary"), dir.path().join("target"));
        fs::write(&temporary, "ours").unwrap();
        fs::write(&target, "theirs").unwrap();
        assert_eq!(rename(&temporary, &target).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&target).unwrap(), "theirs");
        fs::remove_file(&target).unwrap();
        rename(&temporary, &target).unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "ours");
        for (errno, expected) in [(Errno::EPERM, true), (Errno::ENOSYS, true), (Errno::EEXIST, false)] {
            assert_eq!(has_no_links(&errno.into()), expected, "{errno}");
        }
        // The same file under both names: the reply of a link that succeeded was lost.
        fs::hard_link(&target, &temporary).unwrap();
        link(&temporary, &target).unwrap();
        assert!(!has_same_content(&target, Path::new("/dev/null")).unwrap());
    }
}
