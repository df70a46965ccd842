//! The records of the ring buffer, as `bpf/event.h` lays them out.

use bundles::path::RootPath;
use bundles::trace::Use;

/// Bytes before the path.
const HEADER: usize = 32;

/// What the kernel part reports.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The first use of a file.
    Use { time_ns: u64, process: u32, path: RootPath, size: u64, open_flags: u32, how: Use },
    /// A script is about to be read by its interpreter. `name` is the last component of what the caller wrote.
    Script { time_ns: u64, process: u32, name: Vec<u8> },
}

/// `None` if the record is not what the kernel part would write, or its path is none.
pub(crate) fn parse(record: &[u8]) -> Option<Event> {
    let (header, rest) = record.split_at_checked(HEADER)?;
    let u32_at = |at: usize| header.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
    let u64_at = |at: usize| header.get(at..at + 8)?.try_into().ok().map(u64::from_ne_bytes);
    let (time_ns, size) = (u64_at(0)?, u64_at(8)?);
    let (open_flags, process, path_len, how) = (u32_at(16)?, u32_at(20)?, u32_at(24)?, u32_at(28)?);
    let path = rest.get(..path_len as usize)?.strip_suffix(&[0])?;
    let how = match how {
        1 => Use::Open,
        2 => Use::Exec,
        3 => Use::Interpreter,
        4 => Use::Map,
        5 => {
            let name = path.rsplit(|b| *b == b'/').next()?.to_vec();
            return Some(Event::Script { time_ns, process, name });
        }
        _ => return None,
    };
    Some(Event::Use { time_ns, process, path: from_leaf_first(path)?, size, open_flags, how })
}

/// `c\0b\0a` is `/a/b/c`.
fn from_leaf_first(names: &[u8]) -> Option<RootPath> {
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

    pub(crate) fn record(time_ns: u64, process: u32, how: u32, path: &[u8]) -> Vec<u8> {
        let mut bytes = [time_ns.to_ne_bytes(), 77u64.to_ne_bytes()].concat();
        for word in [0o2, process, path.len() as u32, how] {
            bytes.extend_from_slice(&word.to_ne_bytes());
        }
        bytes.extend_from_slice(path);
        bytes
    }

    #[test]
    fn a_use_is_taken_apart() {
        let event = parse(&record(5, 9, 1, b"c d\0b\0a\0")).unwrap();
        let path = RootPath::new("/a/b/c d").unwrap();
        assert_eq!(event, Event::Use { time_ns: 5, process: 9, path, size: 77, open_flags: 2, how: Use::Open });
    }

    #[test]
    fn a_script_keeps_its_last_name() {
        let event = parse(&record(5, 9, 5, b"./bin/run.sh\0")).unwrap();
        assert_eq!(event, Event::Script { time_ns: 5, process: 9, name: b"run.sh".to_vec() });
    }

    #[test]
    fn what_the_kernel_part_would_not_write_is_refused() {
        let good = record(5, 9, 1, b"a\0");
        assert!(parse(&good).is_some());
        assert!(parse(&good[..good.len() - 1]).is_none(), "cut off");
        assert!(parse(&good[..HEADER - 1]).is_none(), "no header");
        assert!(parse(&record(5, 9, 6, b"a\0")).is_none(), "unknown kind of use");
        assert!(parse(&record(5, 9, 1, b"a")).is_none(), "no end");
        assert!(parse(&record(5, 9, 1, b"")).is_none(), "no path");
        assert!(parse(&record(5, 9, 1, b"..\0a\0")).is_none(), "not a plain path");
    }
}
