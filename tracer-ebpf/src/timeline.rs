//! Each file once, in order of first use.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use bundles::path::RootPath;
use bundles::trace::{FileUse, Use};

use crate::event::Event;

/// Scripts waited for at a time. One is waited for only until its interpreter has opened it.
const MAX_SCRIPTS: usize = 4096;

/// When something happened. Records come in the order in which they were written, which on several processors is not
/// quite the order of their times; the number settles equal times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct At {
    time_ns: u64,
    number: u64,
}

#[derive(Debug)]
struct First {
    at: At,
    size: u64,
    open_flags: u32,
    how: Use,
}

/// Collects events. Takes no more than a given number of files, and counts what it could not take.
#[derive(Debug)]
pub(crate) struct Timeline {
    limit: usize,
    number: u64,
    files: HashMap<RootPath, First>,
    scripts: HashMap<u32, (At, Vec<u8>)>,
    lost: u64,
}

impl Timeline {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, number: 0, files: HashMap::new(), scripts: HashMap::new(), lost: 0 }
    }

    /// How many files there are.
    pub(crate) fn files(&self) -> usize {
        self.files.len()
    }

    /// Files that were not taken because there were too many.
    pub(crate) fn lost(&self) -> u64 {
        self.lost
    }

    pub(crate) fn add(&mut self, event: Event) {
        self.number += 1;
        match event {
            Event::Script { time_ns, process, name } => {
                if self.scripts.len() < MAX_SCRIPTS || self.scripts.contains_key(&process) {
                    self.scripts.insert(process, (At { time_ns, number: self.number }, name));
                }
            }
            Event::Use { time_ns, process, path, size, open_flags, how } => {
                let mut first = First { at: At { time_ns, number: self.number }, size, open_flags, how };
                if how == Use::Open
                    && let Some((at, _)) = self.scripts.get(&process).filter(|(_, name)| name == path.name())
                {
                    first = First { at: *at, open_flags: 0, how: Use::Exec, ..first };
                    self.scripts.remove(&process);
                }
                self.insert(path, first);
            }
        }
    }

    fn insert(&mut self, path: RootPath, first: First) {
        let full = self.files.len() >= self.limit;
        match self.files.entry(path) {
            Entry::Vacant(_) if full => self.lost += 1,
            Entry::Vacant(entry) => {
                entry.insert(first);
            }
            // The kernel part forgets what was not used for long, so a file can come again; or two processors were
            // at it at the same time.
            Entry::Occupied(mut entry) => {
                if first.at < entry.get().at {
                    entry.insert(first);
                }
            }
        }
    }

    /// The files, with times counted from `began_ns`.
    pub(crate) fn finish(self, began_ns: u64) -> Vec<FileUse> {
        let mut files: Vec<_> = self.files.into_iter().collect();
        files.sort_unstable_by_key(|(_, first)| first.at);
        let file = |(path, first): (RootPath, First)| FileUse {
            at_us: first.at.time_ns.saturating_sub(began_ns) / 1000,
            size: first.size,
            open_flags: first.open_flags,
            how: first.how,
            ..FileUse::of(path)
        };
        files.into_iter().map(file).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::event::parse;
    use crate::event::tests::record;

    fn finish(limit: usize, records: &[(u64, u32, u32, &str)]) -> (Vec<(String, u64, Use)>, u64) {
        let mut timeline = Timeline::new(limit);
        for (time_ns, process, how, path) in records {
            timeline.add(parse(&record(*time_ns, *process, *how, format!("{path}\0").as_bytes())).unwrap());
        }
        let lost = timeline.lost();
        let files = timeline.finish(1000);
        (files.into_iter().map(|f| (f.path.to_string(), f.at_us, f.how)).collect(), lost)
    }

    fn file(path: &str, at_us: u64, how: Use) -> (String, u64, Use) {
        (path.into(), at_us, how)
    }

    #[test]
    fn files_come_once_and_in_order_of_time() {
        let records = [(1000, 1, 2, "sh"), (5000, 1, 1, "b"), (3000, 2, 1, "a"), (9000, 1, 1, "sh"), (3000, 2, 4, "c")];
        let (files, lost) = finish(10, &records);
        let expected = [("/sh", 0, Use::Exec), ("/a", 2, Use::Open), ("/c", 2, Use::Map), ("/b", 4, Use::Open)];
        assert_eq!(files, expected.map(|(path, at, how)| file(path, at, how)));
        assert_eq!(lost, 0);
    }

    #[test]
    fn a_script_comes_before_its_interpreter() {
        let records = [
            (1000, 1, 5, "./app/run.py"),
            (1000, 1, 2, "python"),
            (2000, 2, 1, "run.py"),
            (3000, 1, 1, "lib"),
            (4000, 1, 1, "run.py\0app"),
            (5000, 1, 1, "run.py\0other"),
        ];
        let (files, _) = finish(10, &records);
        let expected = [
            ("/app/run.py", 0, Use::Exec),
            ("/python", 0, Use::Exec),
            ("/run.py", 1, Use::Open),
            ("/lib", 2, Use::Open),
            ("/other/run.py", 4, Use::Open),
        ];
        assert_eq!(files, expected.map(|(path, at, how)| file(path, at, how)));
    }

    #[test]
    fn what_is_too_much_is_counted() {
        let (files, lost) = finish(2, &[(1, 1, 1, "a"), (2, 1, 1, "b"), (3, 1, 1, "c"), (4, 1, 1, "a")]);
        assert_eq!((files.len(), lost), (2, 1));
    }
}
