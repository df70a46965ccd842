//! Parses the records of the ring buffer, which `bpf/event.h` defines.

use bundles::path::RootPath;
use bundles::trace::{Process, Use};

/// Bytes of `struct event` before the path.
const HEADER: usize = 80;
/// Bytes of the process name, `COMM` in `bpf/event.h`.
const COMM: usize = 16;

/// One report of the kernel part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    /// On the monotonic clock.
    pub(crate) time_ns: u64,
    /// The cgroup id of the followed container; 0: an outside process.
    pub(crate) target: u64,
    /// The pid on the host.
    pub(crate) host_process: u32,
    /// The process as the container sees it.
    pub(crate) process: Process,
    pub(crate) kind: EventKind,
}

/// The device of a file system, and an inode number in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Inode {
    pub(crate) device: u32,
    pub(crate) number: u64,
}

/// Paths are relative to the root of the file's own file system, not to the container's root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EventKind {
    /// The first use of a file.
    Use { path: RootPath, inode: Inode, size: u64, open_flags: u32, how: Use, written: bool },
    /// A script was executed; its interpreter will open it. `name` is the last component of the path the caller wrote.
    Script { name: Vec<u8> },
    /// The first page of a content was read or mapped, as `how` says.
    Content { path: RootPath, inode: Inode, size: u64, how: Use },
    /// A range of pages too long for the kernel's bitmaps was read or mapped.
    Span { inode: Inode, first_page: u64, pages: u32 },
    /// The first exec in the container's root, which is the directory `root` of the file system on `device`.
    FirstExec { device: u32, root: RootPath },
    /// `name`, as the caller wrote it and relative to the directory `from`, does not exist.
    Absent { name: Vec<u8>, device: u32, from: RootPath },
    /// A directory was listed.
    Listed { path: RootPath, device: u32 },
    /// A cgroup was created that may belong to a container, and was made a target.
    Cgroup { path: Vec<u8> },
}

/// `None` if the record does not have the form that the kernel part writes, or holds an invalid path.
pub(crate) fn parse(record: &[u8]) -> Option<Event> {
    let header = Header::parse(record)?;
    let path = record.get(HEADER..)?.get(..header.path_len as usize)?;
    let kind = header.kind(path)?;
    let Header { time_ns, target, host_process, process, .. } = header;
    Some(Event { time_ns, target, host_process, process, kind })
}

/// `struct event` without its path.
struct Header {
    time_ns: u64,
    target: u64,
    inode: Inode,
    size: u64,
    kind: u32,
    open_flags: u32,
    written: bool,
    host_process: u32,
    process: Process,
    path_len: u32,
}

impl Header {
    fn parse(record: &[u8]) -> Option<Self> {
        let header = record.get(..HEADER)?;
        let u32_at = |at: usize| header.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
        let u64_at = |at: usize| header.get(at..at + 8)?.try_into().ok().map(u64::from_ne_bytes);
        let comm = header.get(64..64 + COMM)?.split(|b| *b == 0).next()?;
        Some(Self {
            time_ns: u64_at(0)?,
            target: u64_at(8)?,
            inode: Inode { number: u64_at(16)?, device: u32_at(32)? },
            size: u64_at(24)?,
            kind: u32_at(36)?,
            open_flags: u32_at(40)?,
            written: u32_at(44)? != 0,
            host_process: u32_at(48)?,
            process: Process {
                pid: u32_at(52)?,
                parent: u32_at(56)?,
                name: String::from_utf8_lossy(comm).into_owned(),
            },
            path_len: u32_at(60)?,
        })
    }

    /// Interprets the fields by `enum kind` of `bpf/event.h`.
    fn kind(&self, path: &[u8]) -> Option<EventKind> {
        let Self { inode, size, open_flags, written, .. } = *self;
        let device = inode.device;
        Some(match self.kind {
            kind @ 1..=3 => {
                let how = match kind {
                    1 => Use::Open,
                    2 => Use::Exec,
                    _ => Use::Interpreter,
                };
                EventKind::Use { path: path_from_leaf_first(path)?, inode, size, open_flags, how, written }
            }
            4 => EventKind::Script { name: path.strip_suffix(&[0])?.rsplit(|b| *b == b'/').next()?.to_vec() },
            5 => EventKind::Content { path: path_from_leaf_first(path)?, inode, size, how: Use::Read },
            6 => EventKind::Content { path: path_from_leaf_first(path)?, inode, size, how: Use::Map },
            7 => EventKind::Span { inode, first_page: size, pages: open_flags },
            8 => EventKind::FirstExec { device, root: path_from_leaf_first(path)? },
            9 => {
                let (name, from) = path.split_at_checked(usize::try_from(size).ok()?)?;
                EventKind::Absent { name: name.strip_suffix(&[0])?.to_vec(), device, from: path_from_leaf_first(from)? }
            }
            10 => EventKind::Listed { path: path_from_leaf_first(path)?, device },
            11 => EventKind::Cgroup { path: path.strip_suffix(&[0])?.to_vec() },
            _ => return None,
        })
    }
}

/// `c\0b\0a\0` becomes `/a/b/c`, and an empty slice becomes `/`.
fn path_from_leaf_first(names: &[u8]) -> Option<RootPath> {
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
    fn a_file_use_is_parsed() {
        let event = parse(&record(5, 1, 33, b"c d\0b\0a\0")).unwrap();
        let process = Process { pid: 9, parent: 1, name: "python3".into() };
        let inode = Inode { device: 5, number: 77 };
        let kind =
            EventKind::Use { path: path("/a/b/c d"), inode, size: 33, open_flags: 2, how: Use::Open, written: false };
        assert_eq!(event, Event { time_ns: 5, target: 40, host_process: 900, process, kind });
    }

    #[test]
    fn every_kind_of_event_is_parsed() {
        let inode = Inode { device: 5, number: 77 };
        let cases = [
            (4, 0, &b"./bin/run.sh\0"[..], EventKind::Script { name: b"run.sh".to_vec() }),
            (5, 3, b"a\0", EventKind::Content { path: path("/a"), inode, size: 3, how: Use::Read }),
            (7, 3, b"", EventKind::Span { inode, first_page: 3, pages: 2 }),
            (8, 0, b"", EventKind::FirstExec { device: 5, root: path("/") }),
            (9, 5, b"../x\0b\0a\0", EventKind::Absent { name: b"../x".to_vec(), device: 5, from: path("/a/b") }),
            (10, 0, b"b\0a\0", EventKind::Listed { path: path("/a/b"), device: 5 }),
            (11, 0, b"/kubepods/x\0", EventKind::Cgroup { path: b"/kubepods/x".to_vec() }),
        ];
        for (kind, size, bytes, expected) in cases {
            assert_eq!(parse(&record(1, kind, size, bytes)).unwrap().kind, expected);
        }
    }

    #[test]
    fn malformed_records_are_rejected() {
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
