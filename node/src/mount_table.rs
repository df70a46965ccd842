//! What is mounted where, from `/proc/self/mountinfo`: read without touching any mount.
//!
//! An automounter mounts a file system as soon as somebody uses a path below it, and unmounts it when nobody has for a while. So
//! whoever only wants to know whether something is mounted asks here.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// Tells a mount from an earlier one at the same mount point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MountId(u64);

/// The mounts of this process's mount namespace.
#[derive(Debug, Default)]
pub struct MountTable {
    /// The topmost mount of each mount point, and whether it is an automounter's, which has no files of its own.
    mounts: HashMap<PathBuf, (MountId, bool)>,
}

impl MountTable {
    /// The mounts now.
    pub fn read() -> io::Result<Self> {
        Ok(Self::parse(&std::fs::read("/proc/self/mountinfo")?))
    }

    /// The file system that is mounted at `path`; `None` if there is none, or only an automounter.
    pub fn at(&self, path: &Path) -> Option<MountId> {
        self.mounts.get(path).filter(|(_, automounter)| !automounter).map(|(id, _)| *id)
    }

    /// Lines that cannot be parsed are skipped. Later lines are mounted over earlier ones.
    fn parse(text: &[u8]) -> Self {
        Self { mounts: text.split(|byte| *byte == b'\n').filter_map(line).collect() }
    }
}

/// Parses `id parent device root point options [tags...] - type source options`, see proc_pid_mountinfo(5).
fn line(line: &[u8]) -> Option<(PathBuf, (MountId, bool))> {
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let id = std::str::from_utf8(fields.first()?).ok()?.parse().ok()?;
    let separator = fields.iter().position(|field| *field == b"-")?;
    let automounter = *fields.get(separator + 1)? == b"autofs";
    Some((unescaped(fields.get(4)?), (MountId(id), automounter)))
}

/// The kernel writes blanks, tabs, newlines and backslashes as three octal digits.
fn unescaped(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, behind @ ..] = rest {
        let octal = behind.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &behind[3..];
            }
            None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_topmost_mount_that_is_not_an_automounter_is_found() {
        let table = MountTable::parse(
            b"22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
              malformed\n\
              40 22 0:40 / /cvmfs rw - autofs systemd-1 rw\n\
              41 40 0:41 / /cvmfs/a.b ro shared:7 master:2 - fuse cvmfs2 ro\n\
              43 22 0:43 / /with\\040blank\\134 rw - tmpfs none rw\n\
              50 40 0:44 / /cvmfs/a.b ro - fuse cvmfs2 ro\n",
        );
        assert_eq!(table.at(Path::new("/cvmfs/a.b")), Some(MountId(50)));
        assert_eq!(table.at(Path::new("/with blank\\")), Some(MountId(43)));
        for path in ["/cvmfs", "/cvmfs/c.d", "/home"] {
            assert_eq!(table.at(Path::new(path)), None, "{path}");
        }
        assert!(MountTable::read().unwrap().at(Path::new("/proc")).is_some());
    }
}
