//! CVMFS's own file bundles (client 2.14): `.cvmfsbundle-<name of a file>` beside a file that triggers them.
//!
//! When the trigger is opened, the client fetches the files that the bundle lists, as far as its queue holds them: a pipe of 64 KiB, in
//! which an entry takes 12 bytes (command and length) and its path. Entries that do not fit are dropped silently. A long list is
//! therefore cut into parts that form a chain:
//!
//! ```text
//! open(trigger)         -> part 1: a b c ...      a is in part 1 and has a bundle of its own:
//! open(a)               -> part 2: k l m ...      k is in part 2 and has a bundle of its own:
//! open(k)               -> part 3: ...
//! ```
//!
//! The container opens `a` early, when part 1 may not be fetched yet, so two parts must fit into the queue; it opens `k` only after part
//! 1. Fetching a file triggers nothing, only opening does. A part's trigger is the file of the part before that is most likely to be
//!    opened, and among these the first; a start that does not open it does not fetch the following parts.
//!
//! Source: `cvmfs/bundle_mgr.{h,cc}` of cvmfs/cvmfs and its pull requests 4002, 4351 and 4359.

use std::cmp::Reverse;

use serde_json::json;

use super::{Files, LayerFile};
use crate::path::RootPath;

/// Prefix of a bundle's name, before the name of its trigger.
const PREFIX: &[u8] = b".cvmfsbundle-";
/// Longest file name in bytes.
const MAX_NAME: usize = 255;
/// Most files of a part.
const MAX_FILES: usize = 250;
/// Most pages of the pipe for a part: two parts fit into its 16 pages, wherever in a page the first begins.
const MAX_PAGES: usize = 7;
/// A page of the pipe. An entry is not split over two pages, so the end of a page may stay empty.
const PAGE: usize = 4096;
/// Bytes of an entry besides its path.
const ENTRY: usize = 12;

/// A chain of bundles that begins with one trigger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Native {
    /// The bundle files to publish.
    pub files: Vec<NativeFile>,
    /// Number of files whose names a bundle cannot contain.
    pub inexpressible: usize,
}

/// A bundle file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NativeFile {
    /// Its path in the repository.
    pub path: RootPath,
    /// Its content.
    pub content: Vec<u8>,
}

/// The trigger is not a file of the bundle.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0} cannot be the trigger: it is not a file of the bundle; choose a file that the container opens early, as listed by \
     `bundle inspect`"
)]
pub struct TriggerError(RootPath);

/// Exports the files as bundles that follow from opening `trigger`, a path in the container.
pub fn native(files: &Files, trigger: &RootPath) -> Result<Native, TriggerError> {
    let no_trigger = || TriggerError(trigger.clone());
    let first = files.files.iter().find(|file| file.container == *trigger).ok_or_else(no_trigger)?;
    let mut next = bundle_of(first).ok_or_else(no_trigger)?;
    let mut native = Native { files: Vec::new(), inexpressible: 0 };
    let mut part = Part::default();
    let mut rest = files.files.iter().filter(|file| file.container != *trigger).peekable();
    while let Some(file) = rest.next() {
        match std::str::from_utf8(file.repository.as_bytes()) {
            Ok(path) => part.add(file, path),
            Err(_) => native.inexpressible += 1,
        }
        let full = match rest.peek() {
            Some(next) => !part.has_room(next),
            None => true,
        };
        if full && !part.files.is_empty() {
            native.files.push(NativeFile { path: next.clone(), content: part.content() });
            match part.next_trigger() {
                Some(path) => next = path,
                None => {
                    native.inexpressible += rest.count();
                    return Ok(native);
                }
            }
            part = Part::default();
        }
    }
    Ok(native)
}

/// The path of the bundle for a trigger; `None` if the name becomes too long.
fn bundle_of(trigger: &LayerFile) -> Option<RootPath> {
    let name = [PREFIX, trigger.repository.name()].concat();
    (name.len() <= MAX_NAME).then(|| trigger.repository.parent()?.join(&name).ok())?
}

#[derive(Default)]
struct Part<'a> {
    files: Vec<(&'a LayerFile, &'a str)>,
    queue: Queue,
}

/// How much of the pipe is in use.
#[derive(Default, Clone, Copy)]
struct Queue {
    pages: usize,
    free: usize,
}

impl Queue {
    fn with(self, path: &RootPath) -> Self {
        let entry = ENTRY + path.as_bytes().len();
        match self.free.checked_sub(entry) {
            Some(free) => Self { free, ..self },
            None => {
                let pages = entry.div_ceil(PAGE);
                Self { pages: self.pages + pages, free: pages * PAGE - entry }
            }
        }
    }
}

impl<'a> Part<'a> {
    fn add(&mut self, file: &'a LayerFile, path: &'a str) {
        self.queue = self.queue.with(&file.repository);
        self.files.push((file, path));
    }

    fn has_room(&self, next: &LayerFile) -> bool {
        self.files.len() < MAX_FILES && self.queue.with(&next.repository).pages <= MAX_PAGES
    }

    fn content(&self) -> Vec<u8> {
        let dependencies: Vec<_> = self.files.iter().map(|(_, path)| *path).collect();
        let specification = json!({
            "name": "CVMFS_BUNDLE",
            "version": "1.0.0",
            "encoding": "UTF-8",
            "dependencies": dependencies,
        });
        format!("{specification:#}\n").into_bytes()
    }

    fn next_trigger(&self) -> Option<RootPath> {
        let able = self.files.iter().filter_map(|(file, _)| Some((file.expected, bundle_of(file)?)));
        able.min_by_key(|(expected, _)| Reverse(*expected)).map(|(_, bundle)| bundle)
    }
}
