//! `/proc/<process>/mountinfo`: which file systems one process has mounted where.
//!
//! Not parsed with the crate `procfs`: that needs UTF-8, while the paths of mounts may hold any byte, and it leaves the
//! escapes in overlayfs' options (`lowerdir=`) to its caller.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::Error;

/// One line of mountinfo, reduced to the fields used here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    /// Device of the superblock, as the kernel encodes it in `s_dev`. Not always equal to `st_dev` of `stat`.
    pub(crate) device: u32,
    /// The directory of the file system that is mounted.
    pub(crate) root: PathBuf,
    /// The mount point.
    pub(crate) point: PathBuf,
    /// The file system type, such as `ext4`, `overlay` or `fuse`.
    pub(crate) kind: String,
    /// The mount source: a device, or a word that the file system chose, such as `cvmfs2`.
    pub(crate) source: String,
    /// The file system's options, comma-separated, with the kernel's escapes.
    options: Vec<u8>,
}

/// The mounts in this thread's namespace, oldest first. A thread may have a namespace of its own.
pub(crate) fn own_mounts() -> Result<Vec<Mount>, Error> {
    let path = Path::new("/proc/thread-self/mountinfo");
    read(path).map_err(|source| Error::File { what: "read", path: path.into(), source })
}

/// The mounts in a process's namespace, with paths relative to its own root.
pub(crate) fn mounts_of_process(process: u32) -> io::Result<Vec<Mount>> {
    read(Path::new(&format!("/proc/{process}/mountinfo")))
}

fn read(path: &Path) -> io::Result<Vec<Mount>> {
    Ok(parse(&std::fs::read(path)?))
}

/// The mount that `path` lies on. The path must be absolute and without symbolic links. Of several mounts on one point the
/// last, which hides the others.
pub(crate) fn covering<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    let longest = |best: Option<&'a Mount>, mount: &'a Mount| match best {
        Some(best) if best.point.as_os_str().len() > mount.point.as_os_str().len() => Some(best),
        _ => Some(mount),
    };
    mounts.iter().filter(|mount| path.starts_with(&mount.point)).fold(None, longest)
}

impl Mount {
    /// Converts `path`, which lies on this mount, into a path in the file system.
    pub(crate) fn to_file_system(&self, path: &Path) -> Option<PathBuf> {
        Some(join(&self.root, path.strip_prefix(&self.point).ok()?))
    }

    /// Converts a path in the file system into the path seen through this mount.
    pub(crate) fn to_mounted(&self, path: &Path) -> Option<PathBuf> {
        Some(join(&self.point, path.strip_prefix(&self.root).ok()?))
    }

    /// Whether the file system has the option `name`, without a value.
    pub(crate) fn has_option(&self, name: &str) -> bool {
        self.options.split(|b| *b == b',').any(|option| option == name.as_bytes())
    }

    /// The values of the file system's option `name`, in order.
    fn option(&self, name: &str) -> Vec<Vec<u8>> {
        let value = |option: &[u8]| Some(unescape(option.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?));
        self.options.split(|b| *b == b',').filter_map(value).collect()
    }

    /// The directories of an overlay, as they were passed to `mount`, so possibly relative.
    pub(crate) fn overlay_directories(&self) -> OverlayDirectories {
        let lists = self.option("lowerdir").into_iter().flat_map(|list| split_list(&list));
        let singles = ["lowerdir+", "datadir+"].into_iter().flat_map(|name| self.option(name)).map(to_path);
        // An empty path would be resolved to the directory it is relative to.
        let is_named = |path: &PathBuf| !path.as_os_str().is_empty();
        OverlayDirectories {
            lower: lists.chain(singles).filter(is_named).collect(),
            upper: self.option("upperdir").into_iter().next().map(to_path).filter(is_named),
        }
    }
}

/// The directories that an overlay consists of.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OverlayDirectories {
    /// Topmost first.
    pub(crate) lower: Vec<PathBuf>,
    pub(crate) upper: Option<PathBuf>,
}

impl OverlayDirectories {
    /// Makes lower directories absolute. containerd mounts from within a directory above all layers when the names are too
    /// long for one page of options, so each is looked for below the directories above the upper one.
    pub(crate) fn resolve(self) -> Self {
        let Some(upper) = &self.upper else { return self };
        let absolute = |lower: PathBuf| {
            if lower.is_absolute() {
                return lower;
            }
            upper.ancestors().map(|above| above.join(&lower)).find(|path| path.is_dir()).unwrap_or(lower)
        };
        Self { lower: self.lower.into_iter().map(absolute).collect(), upper: self.upper }
    }
}

fn to_path(bytes: Vec<u8>) -> PathBuf {
    OsString::from_vec(bytes).into()
}

/// Like `Path::join`, but without a trailing slash if `rest` is empty.
fn join(directory: &Path, rest: &Path) -> PathBuf {
    if rest.as_os_str().is_empty() { directory.into() } else { directory.join(rest) }
}

/// Skips lines without the documented form (proc(5)).
pub(crate) fn parse(text: &[u8]) -> Vec<Mount> {
    text.split(|b| *b == b'\n').filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|b| *b == b' ');
    let device = str::from_utf8(fields.nth(2)?).ok()?;
    let (major, minor) = device.split_once(':')?;
    let major: u32 = major.parse().ok()?;
    let minor: u32 = minor.parse().ok()?;
    let mut path = || Some(to_path(unescape(fields.next()?)));
    let root = path()?;
    let point = path()?;
    // Any number of optional fields, ended by a hyphen.
    let mut fields = fields.skip_while(|field| *field != b"-").skip(1);
    let mut word = || Some(String::from_utf8_lossy(&unescape(fields.next()?)).into_owned());
    let kind = word()?;
    let source = word()?;
    let options = fields.next().unwrap_or_default().to_vec();
    Some(Mount { device: (major << 20) | (minor & 0xf_ffff), root, point, kind, source, options })
}

/// Replaces `\ooo` by the byte with that octal number.
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

/// Splits at colons, except after a backslash, which overlayfs removes.
fn split_list(list: &[u8]) -> Vec<PathBuf> {
    let mut parts = Vec::new();
    let mut part = Vec::new();
    let mut bytes = list.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => part.push(*bytes.next().unwrap_or(byte)),
            b':' => parts.push(std::mem::take(&mut part)),
            _ => part.push(*byte),
        }
    }
    parts.push(part);
    parts.into_iter().map(to_path).collect()
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
    fn mountinfo_lines_are_parsed() {
        let mounts = parse(TEXT);
        assert_eq!(mounts.len(), 5);
        assert_eq!((mounts[0].device, mounts[0].point.as_path()), (254 << 20 | 1, Path::new("/")));
        assert_eq!(
            (mounts[2].point.as_path(), mounts[2].root.as_path()),
            (Path::new("/mnt/with space"), Path::new("/a"))
        );
        assert_eq!((mounts[3].kind.as_str(), mounts[3].source.as_str()), ("fuse", "cvmfs2"));
        let expected = OverlayDirectories { lower: vec!["/x:y".into(), "/z,1".into()], upper: Some("/u/fs".into()) };
        assert_eq!(mounts[2].overlay_directories(), expected);
        let empty = parse(b"1 1 0:5 / / rw - overlay overlay rw,lowerdir=:,lowerdir+=,upperdir=\n");
        assert_eq!(empty[0].overlay_directories(), OverlayDirectories { lower: vec![], upper: None });
    }

    #[test]
    fn paths_convert_through_mounts_both_ways() {
        let mounts = parse(TEXT);
        let cases =
            [("/etc/x", 0, "/etc/x"), ("/data", 3, "/"), ("/data/a/b", 3, "/a/b"), ("/data/deep/a", 4, "/sub/a")];
        for (path, index, inner) in cases {
            let mount = covering(&mounts, Path::new(path)).unwrap();
            assert_eq!(mount, &mounts[index], "{path}");
            assert_eq!(mount.to_file_system(Path::new(path)).unwrap(), Path::new(inner), "{path}");
            assert_eq!(mount.to_mounted(Path::new(inner)).unwrap(), Path::new(path), "{inner}");
        }
        assert_eq!(mounts[4].to_mounted(Path::new("/other")), None);
        assert_eq!(covering(&[], Path::new("/")), None);
    }

    #[test]
    fn relative_layers_are_resolved_from_the_upper_one() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("snapshots/7/fs")).unwrap();
        let at = directory.path().display();
        let text = format!("1 1 0:5 / / rw - overlay overlay rw,lowerdir=7/fs:8/fs,upperdir={at}/snapshots/9/fs\n");
        let directories = mounts(&text)[0].overlay_directories().resolve();
        assert_eq!(directories.lower, [directory.path().join("snapshots/7/fs"), "8/fs".into()]);
    }

    #[test]
    fn this_machines_root_is_found() {
        assert!(covering(&own_mounts().unwrap(), Path::new("/")).is_some());
    }
}
