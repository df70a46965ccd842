//! The records of the ring buffer, as `bpf/event.h` lays them out.

use bundles::path::RootPath;
use bundles::trace::{Process, Use};

/// Bytes before the path.
const HEADER: usize = 80;
const COMM: usize = 16;

/// What the kernel part reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    /// On the monotonic clock.
    pub(crate) time_ns: u64,
    /// The cgroup id under which the container is followed; 0: by a process outside.
    pub(crate) target: u64,
    /// Who did it, as the host numbers processes.
    pub(crate) host_process: u32,
    /// Who did it, as the container sees it.
    pub(crate) process: Process,
    pub(crate) what: What,
}

/// The file system's device, and the file's number in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Inode {
    pub(crate) device: u32,
    pub(crate) number: u64,
}

/// Paths are those in the file's own file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    /// The first use of a file.
    Use { path: RootPath, inode: Inode, size: u64, open_flags: u32, how: Use, written: bool },
    /// A script is about to be read by its interpreter. `name` is the last component of what the caller wrote.
    Script { name: Vec<u8> },
    /// The first page of a content was used. `how`: read or mapped.
    Content { path: RootPath, inode: Inode, size: u64, how: Use },
    /// Many pages at once.
    Span { inode: Inode, first_page: u64, pages: u32 },
    /// The first exec in the container's root, which is the directory `root` of its file system.
    Begin { device: u32, root: RootPath },
    /// `name`, as the caller wrote it, from the directory `from`, is not there.
    Absent { name: Vec<u8>, device: u32, from: RootPath },
    /// A directory was listed.
    Listed { path: RootPath, device: u32 },
    /// A cgroup was made, which is now a target.
    Cgroup { path: Vec<u8> },
}

/// `None` if the record is not what the kernel part would write, or its path is none.
pub(crate) fn parse(record: &[u8]) -> Option<Event> {
    let (header, rest) = record.split_at_checked(HEADER)?;
    let u32_at = |at: usize| header.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
    let u64_at = |at: usize| header.get(at..at + 8)?.try_into().ok().map(u64::from_ne_bytes);
    let (time_ns, target, number, size) = (u64_at(0)?, u64_at(8)?, u64_at(16)?, u64_at(24)?);
    let (device, kind, open_flags, written) = (u32_at(32)?, u32_at(36)?, u32_at(40)?, u32_at(44)? != 0);
    let (host_process, pid, parent, path_len) = (u32_at(48)?, u32_at(52)?, u32_at(56)?, u32_at(60)?);
    let comm = header.get(64..64 + COMM)?.split(|b| *b == 0).next()?;
    let process = Process { pid, parent, name: String::from_utf8_lossy(comm).into_owned() };
    let path = rest.get(..path_len as usize)?;
    let inode = Inode { device, number };
    let file = |how| Some(What::Use { path: from_leaf_first(path)?, inode, size, open_flags, how, written });
    let what = match kind {
        1 => file(Use::Open)?,
        2 => file(Use::Exec)?,
        3 => file(Use::Interpreter)?,
        4 => What::Script { name: path.strip_suffix(&[0])?.rsplit(|b| *b == b'/').next()?.to_vec() },
        5 => What::Content { path: from_leaf_first(path)?, inode, size, how: Use::Read },
        6 => What::Content { path: from_leaf_first(path)?, inode, size, how: Use::Map },
        7 => What::Span { inode, first_page: size, pages: open_flags },
        8 => What::Begin { device, root: from_leaf_first(path)? },
        9 => {
            let (name, from) = path.split_at_checked(usize::try_from(size).ok()?)?;
            What::Absent { name: name.strip_suffix(&[0])?.to_vec(), device, from: from_leaf_first(from)? }
        }
        10 => What::Listed { path: from_leaf_first(path)?, device },
        11 => What::Cgroup { path: path.strip_suffix(&[0])?.to_vec() },
        _ => return None,
    };
    Some(Event { time_ns, target, host_process, process, what })
}

/// `c\0b\0a\0` is `/a/b/c`, and nothing at all is `/`.
fn from_leaf_first(names: &[u8]) -> Option<RootPath> {
    let Some(names) = names.strip_suffix(&[0]) else {
        return names.is_empty().then(|| RootPath::new("/").ok()).flatten();
    };
    let mut path = Vec::with_capacity(names.len() + 1);
    for name in names.split(|b| *b == 0).rev() {
        path.push(b'/');
        path.extend_from_slice(name);
    }
    RootPath::new(path).ok()
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    pub(crate) fn record(time_ns: u64, kind: u32, size: u64, path: &[u8]) -> Vec<u8> {
        let mut bytes = [time_ns, 40, 77, size].map(u64::to_ne_bytes).concat();
        for word in [5, kind, 2, 0, 900, 9, 1, path.len() as u32] {
            bytes.extend_from_slice(&u32::to_ne_bytes(word));
        }
        bytes.extend_from_slice(b"python3\0garbage\0");
        bytes.extend_from_slice(path);
        bytes
    }

    fn path(text: &str) -> RootPath {
        RootPath::new(text).unwrap()
    }

    #[test]
    fn a_use_is_taken_apart() {
        let event = parse(&record(5, 1, 33, b"c d\0b\0a\0")).unwrap();
        let process = Process { pid: 9, parent: 1, name: "python3".into() };
        let inode = Inode { device: 5, number: 77 };
        let what = What::Use { path: path("/a/b/c d"), inode, size: 33, open_flags: 2, how: Use::Open, written: false };
        assert_eq!(event, Event { time_ns: 5, target: 40, host_process: 900, process, what });
    }

    #[test]
    fn each_kind_has_its_own_form() {
        let inode = Inode { device: 5, number: 77 };
        let cases = [
            (4, 0, &b"./bin/run.sh\0"[..], What::Script { name: b"run.sh".to_vec() }),
            (5, 3, b"a\0", What::Content { path: path("/a"), inode, size: 3, how: Use::Read }),
            (7, 3, b"", What::Span { inode, first_page: 3, pages: 2 }),
            (8, 0, b"", What::Begin { device: 5, root: path("/") }),
            (9, 5, b"../x\0b\0a\0", What::Absent { name: b"../x".to_vec(), device: 5, from: path("/a/b") }),
            (10, 0, b"b\0a\0", What::Listed { path: path("/a/b"), device: 5 }),
            (11, 0, b"/kubepods/x\0", What::Cgroup { path: b"/kubepods/x".to_vec() }),
        ];
        for (kind, size, bytes, expected) in cases {
            assert_eq!(parse(&record(1, kind, size, bytes)).unwrap().what, expected);
        }
    }

    #[test]
    fn what_the_kernel_part_would_not_write_is_refused() {
        let good = record(5, 1, 0, b"a\0");
        assert!(parse(&good).is_some());
        assert!(parse(&good[..good.len() - 1]).is_none(), "cut off");
        assert!(parse(&good[..HEADER - 1]).is_none(), "no header");
        for (why, kind, bytes) in [
            ("unknown kind", 99, &b"a\0"[..]),
            ("no end", 1, b"a"),
            ("not a plain path", 1, b"..\0a\0"),
            ("no name", 4, b""),
            ("name without end", 9, b"../x\0b\0"),
        ] {
            assert!(parse(&record(5, kind, 0, bytes)).is_none(), "{why}");
        }
    }
}
