//! What `/proc/self/mountinfo` tells about the recorder's own place.

use std::path::{Path, PathBuf};

use crate::Error;

const MOUNTINFO: &str = "/proc/self/mountinfo";

/// One line of mountinfo, with what is needed here.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    /// Device of the superblock, as the kernel encodes it in `s_dev`. Not always `stat`'s.
    pub(crate) device: u32,
    /// Where it is mounted.
    pub(crate) point: PathBuf,
    /// File system type.
    pub(crate) kind: String,
}

/// The mounts that this process sees, oldest first.
pub(crate) fn mounts() -> Result<Vec<Mount>, Error> {
    let text =
        std::fs::read(MOUNTINFO).map_err(|source| Error::File { what: "read", path: MOUNTINFO.into(), source })?;
    Ok(parse(&text))
}

/// The device of the file system mounted on `/`; of several on top of each other, the visible one.
pub(crate) fn root_device(mounts: &[Mount]) -> Option<u32> {
    mounts.iter().rev().find(|m| m.point == Path::new("/")).map(|m| m.device)
}

/// Lines that do not have the documented form (proc(5)) are left out.
fn parse(text: &[u8]) -> Vec<Mount> {
    text.split(|b| *b == b'\n').filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    let line = String::from_utf8_lossy(line);
    let (before, after) = line.split_once(" - ")?;
    let mut fields = before.split(' ');
    let (major, minor) = fields.nth(2)?.split_once(':')?;
    let (major, minor): (u32, u32) = (major.parse().ok()?, minor.parse().ok()?);
    let point = unescape(fields.nth(1)?);
    let kind = after.split(' ').next()?.to_owned();
    Some(Mount { device: (major << 20) | (minor & 0xf_ffff), point: point.into(), kind })
}

/// Space, tab, newline and backslash are written as `\ooo`.
fn unescape(field: &str) -> String {
    ["\\040", "\\011", "\\012", "\\134"]
        .into_iter()
        .zip([" ", "\t", "\n", "\\"])
        .fold(field.to_owned(), |field, (code, plain)| field.replace(code, plain))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const TEXT: &[u8] = b"21 1 254:1 / / rw,relatime shared:1 - ext4 /dev/root rw\n\
        30 21 0:26 / /sys/fs/cgroup/unified rw,nosuid - cgroup2 cgroup2 rw\n\
        garbage\n\
        31 21 0:27 /a /mnt/with\\040space rw master:1 propagate_from:2 - overlay overlay rw,lowerdir=/x\n\
        32 1 0:300 / / rw - tmpfs none rw\n";

    #[test]
    fn mountinfo_lines_are_taken_apart() {
        let mounts = parse(TEXT);
        assert_eq!(mounts.len(), 4);
        assert_eq!(mounts[0], Mount { device: 254 << 20 | 1, point: "/".into(), kind: "ext4".into() });
        assert_eq!(mounts[2].point, Path::new("/mnt/with space"));
        assert_eq!(mounts[2].kind, "overlay");
    }

    #[test]
    fn the_visible_root_counts() {
        assert_eq!(root_device(&parse(TEXT)), Some(300));
        assert_eq!(root_device(&[]), None);
    }

    #[test]
    fn this_machine_has_a_root() {
        assert!(root_device(&mounts().unwrap()).is_some());
    }
}
