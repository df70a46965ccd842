//! `/proc/<process>/mountinfo`: what is mounted where, as one process sees it.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::Error;

/// One line of mountinfo, with what is needed here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    /// Device of the superblock, as the kernel encodes it in `s_dev`. Not always `stat`'s.
    pub(crate) device: u32,
    /// Which directory of its file system is mounted.
    pub(crate) root: PathBuf,
    /// Where it is mounted.
    pub(crate) point: PathBuf,
    /// File system type.
    pub(crate) kind: String,
    /// What is mounted: a device, or a word of the file system's own.
    pub(crate) source: String,
    /// Options of the file system, comma-separated, as the kernel escapes them.
    options: Vec<u8>,
}

/// The mounts that this thread sees, oldest first. A thread can have a namespace of its own.
pub(crate) fn own() -> Result<Vec<Mount>, Error> {
    let path = Path::new("/proc/thread-self/mountinfo");
    read(path).map_err(|source| Error::File { what: "read", path: path.into(), source })
}

/// The mounts that a process sees, with paths from its own root.
pub(crate) fn of(process: u32) -> std::io::Result<Vec<Mount>> {
    read(Path::new(&format!("/proc/{process}/mountinfo")))
}

fn read(path: &Path) -> std::io::Result<Vec<Mount>> {
    Ok(parse(&std::fs::read(path)?))
}

/// The mount on which `path`, which is absolute and without links, lies; of several on top of each other the visible one.
pub(crate) fn covering<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    let longest = |best: Option<&'a Mount>, mount: &'a Mount| match best {
        Some(best) if best.point.as_os_str().len() > mount.point.as_os_str().len() => Some(best),
        _ => Some(mount),
    };
    mounts.iter().filter(|mount| path.starts_with(&mount.point)).fold(None, longest)
}

impl Mount {
    /// Where `path`, which lies on this mount, is in the file system.
    pub(crate) fn in_file_system(&self, path: &Path) -> Option<PathBuf> {
        Some(join(&self.root, path.strip_prefix(&self.point).ok()?))
    }

    /// Where `path` of the file system is seen through this mount.
    pub(crate) fn seen(&self, path: &Path) -> Option<PathBuf> {
        Some(join(&self.point, path.strip_prefix(&self.root).ok()?))
    }

    /// Whether the file system has the option `name`, without a value.
    pub(crate) fn has_option(&self, name: &str) -> bool {
        self.options.split(|b| *b == b',').any(|option| option == name.as_bytes())
    }

    /// The values of the file system's option `name`, in their order.
    pub(crate) fn option(&self, name: &str) -> Vec<OsString> {
        let value = |option: &[u8]| {
            let value = option.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
            Some(OsString::from_vec(unescape(value)))
        };
        self.options.split(|b| *b == b',').filter_map(value).collect()
    }
}

/// Joins without a slash at the end if there is nothing behind it.
fn join(directory: &Path, rest: &Path) -> PathBuf {
    if rest.as_os_str().is_empty() { directory.into() } else { directory.join(rest) }
}

/// Lines that do not have the documented form (proc(5)) are left out.
fn parse(text: &[u8]) -> Vec<Mount> {
    text.split(|b| *b == b'\n').filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|b| *b == b' ');
    let device = str::from_utf8(fields.nth(2)?).ok()?;
    let (major, minor) = device.split_once(':')?;
    let (major, minor): (u32, u32) = (major.parse().ok()?, minor.parse().ok()?);
    let mut path = || Some(PathBuf::from(OsString::from_vec(unescape(fields.next()?))));
    let (root, point) = (path()?, path()?);
    // Optional fields, of any number, end in a hyphen.
    let mut fields = fields.skip_while(|field| *field != b"-").skip(1);
    let mut word = || Some(String::from_utf8_lossy(&unescape(fields.next()?)).into_owned());
    let (kind, source) = (word()?, word()?);
    let options = fields.next().unwrap_or_default().to_vec();
    Some(Mount { device: (major << 20) | (minor & 0xf_ffff), root, point, kind, source, options })
}

/// `\ooo` is a byte in octal.
fn unescape(mut field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    while let Some((first, rest)) = field.split_first() {
        let code = rest.first_chunk::<3>().and_then(|digits| u8::from_str_radix(str::from_utf8(digits).ok()?, 8).ok());
        let (byte, used) = match code {
            Some(byte) if *first == b'\\' => (byte, 4),
            _ => (*first, 1),
        };
        plain.push(byte);
        field = &field[used..];
    }
    plain
}

/// The lower directories of an overlay, topmost first, and the upper one, as they were given when it was mounted.
pub(crate) fn overlay_directories(overlay: &Mount) -> (Vec<PathBuf>, Option<PathBuf>) {
    let lists = overlay.option("lowerdir").into_iter().flat_map(|list| split_list(list.as_bytes()));
    let singles = ["lowerdir+", "datadir+"].into_iter().flat_map(|name| overlay.option(name)).map(PathBuf::from);
    let upper = overlay.option("upperdir").into_iter().next().map(PathBuf::from);
    // containerd mounts from within a directory above all layers when their names would be too long together.
    let absolute = |lower: PathBuf| match &upper {
        Some(upper) if lower.is_relative() => {
            upper.ancestors().map(|above| above.join(&lower)).find(|path| path.is_dir()).unwrap_or(lower)
        }
        _ => lower,
    };
    (lists.chain(singles).map(absolute).collect(), upper)
}

/// Colons separate, unless a backslash is before them.
fn split_list(list: &[u8]) -> Vec<PathBuf> {
    let mut parts = vec![Vec::new()];
    let mut bytes = list.iter();
    while let Some(byte) = bytes.next() {
        let escaped = (*byte == b'\\').then(|| bytes.next()).flatten();
        match (byte, parts.last_mut()) {
            (_, Some(part)) if escaped.is_some() => part.extend(escaped),
            (b':', _) => parts.push(Vec::new()),
            (byte, Some(part)) => part.push(*byte),
            (_, None) => {}
        }
    }
    parts.into_iter().filter(|part| !part.is_empty()).map(|part| OsString::from_vec(part).into()).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const TEXT: &[u8] = b"21 1 254:1 / / rw,relatime shared:1 - ext4 /dev/root rw\n\
        30 21 0:26 / /sys/fs/cgroup/unified rw,nosuid - cgroup2 cgroup2 rw\n\
        garbage\n\
        31 21 0:27 /a /mnt/with\\040space rw master:1 propagate_from:2 - overlay overlay rw,\
        lowerdir=/x\\134:y:/z\\0541,upperdir=/u/fs,index=off\n\
        32 21 0:300 / /data rw - fuse cvmfs2 rw\n\
        33 21 0:301 /sub /data/deep rw - tmpfs none rw\n";

    pub(crate) fn mounts(text: &str) -> Vec<Mount> {
        parse(text.as_bytes())
    }

    #[test]
    fn mountinfo_lines_are_taken_apart() {
        let mounts = parse(TEXT);
        assert_eq!(mounts.len(), 5);
        assert_eq!((mounts[0].device, mounts[0].point.as_path()), (254 << 20 | 1, Path::new("/")));
        assert_eq!(
            (mounts[2].point.as_path(), mounts[2].root.as_path()),
            (Path::new("/mnt/with space"), Path::new("/a"))
        );
        assert_eq!((mounts[3].kind.as_str(), mounts[3].source.as_str()), ("fuse", "cvmfs2"));
        let (lower, upper) = overlay_directories(&mounts[2]);
        assert_eq!((lower, upper), (vec!["/x:y".into(), "/z,1".into()], Some("/u/fs".into())));
    }

    #[test]
    fn paths_are_followed_through_mounts_both_ways() {
        let mounts = parse(TEXT);
        let cases =
            [("/etc/x", 0, "/etc/x"), ("/data", 3, "/"), ("/data/a/b", 3, "/a/b"), ("/data/deep/a", 4, "/sub/a")];
        for (path, index, inner) in cases {
            let mount = covering(&mounts, Path::new(path)).unwrap();
            assert_eq!(mount, &mounts[index], "{path}");
            assert_eq!(mount.in_file_system(Path::new(path)).unwrap(), Path::new(inner), "{path}");
            assert_eq!(mount.seen(Path::new(inner)).unwrap(), Path::new(path), "{inner}");
        }
        assert_eq!(mounts[4].seen(Path::new("/other")), None);
        assert_eq!(covering(&[], Path::new("/")), None);
    }

    #[test]
    fn relative_layers_are_found_from_the_upper_one() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("snapshots/7/fs")).unwrap();
        let at = directory.path().display();
        let text = format!("1 1 0:5 / / rw - overlay overlay rw,lowerdir=7/fs:8/fs,upperdir={at}/snapshots/9/fs\n");
        let (lower, _) = overlay_directories(&mounts(&text)[0]);
        assert_eq!(lower, [directory.path().join("snapshots/7/fs"), "8/fs".into()]);
    }

    #[test]
    fn this_machine_has_a_root() {
        assert!(covering(&own().unwrap(), Path::new("/")).is_some());
    }
}
