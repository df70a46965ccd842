//! CVMFS's own file bundles (client 2.14): `.cvmfsbundle-<name of a file>` beside a file that triggers them.
//!
//! When somebody opens the trigger, the client fetches the files that the bundle lists, as far as its queue holds them:
//! a pipe of 64 KiB, in which an entry takes 12 bytes (command and length) and its path. What does not fit is dropped
//! without a word. A long list is therefore cut into parts, in a chain:
//!
//! ```text
//! open(trigger)         -> part 1: a b c ...      a is in part 1 and has a bundle of its own:
//! open(a)               -> part 2: k l m ...      k is in part 2 and has a bundle of its own:
//! open(k)               -> part 3: ...
//! ```
//!
//! The container opens `a` early, when part 1 may not be fetched yet, so two parts must fit into the queue; it opens `k`
//! only when it has come through part 1. What a bundle fetches triggers nothing, only opening does. A part's trigger is the
//! file of the part before that is most surely opened, and of these the first; a start that does not open it goes without
//! the parts behind.
//!
//! Source: `cvmfs/bundle_mgr.{h,cc}` of cvmfs/cvmfs and its pull requests 4002, 4351 and 4359.

use std::cmp::Reverse;

use serde_json::json;

use super::{Files, LayerFile};
use crate::path::RootPath;

/// What stands before a trigger's name.
const PREFIX: &[u8] = b".cvmfsbundle-";
/// The longest name of a file.
const MAX_NAME: usize = 255;
/// The most files of a part.
const MAX_FILES: usize = 250;
/// The most pages of the pipe that a part takes: two parts fit into its 16, wherever in a page the first begins.
const MAX_PAGES: usize = 7;
/// A page of the pipe. An entry is not split over two, so the end of a page may stay empty.
const PAGE: usize = 4096;
/// What an entry takes of the queue besides its path.
const ENTRY: usize = 12;

/// Bundles that follow from one trigger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Native {
    /// The files to publish.
    pub files: Vec<NativeFile>,
    /// Files with names that a bundle cannot hold.
    pub inexpressible: usize,
}

/// One bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NativeFile {
    /// Where it belongs in the repository.
    pub path: RootPath,
    /// Its content.
    pub content: Vec<u8>,
}

/// The trigger is not among the files.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0} is not among the files of the bundle that can trigger; name one that the container opens first, as `inspect` \
     shows them"
)]
pub struct NoTrigger(RootPath);

/// The files as bundles that follow from opening `trigger`, a path in the container.
pub fn native(files: &Files, trigger: &RootPath) -> Result<Native, NoTrigger> {
    let no_trigger = || NoTrigger(trigger.clone());
    let first = files.files.iter().find(|file| file.container == *trigger).ok_or_else(no_trigger)?;
    let mut place = bundle_of(first).ok_or_else(no_trigger)?;
    let (mut native, mut part) = (Native { files: Vec::new(), inexpressible: 0 }, Part::default());
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
            native.files.push(NativeFile { path: place.clone(), content: part.content() });
            match part.next_trigger() {
                Some(next) => place = next,
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

/// Where the bundle of a trigger belongs, if it can be one.
fn bundle_of(trigger: &LayerFile) -> Option<RootPath> {
    let name = [PREFIX, trigger.repository.name()].concat();
    (name.len() <= MAX_NAME).then(|| trigger.repository.parent()?.join(&name).ok())?
}

#[derive(Default)]
struct Part<'a> {
    files: Vec<(&'a LayerFile, &'a str)>,
    queue: Queue,
}

/// How much of the pipe is taken.
#[derive(Default, Clone, Copy)]
struct Queue {
    pages: usize,
    room: usize,
}

impl Queue {
    fn with(self, path: &RootPath) -> Self {
        let entry = ENTRY + path.as_bytes().len();
        match self.room.checked_sub(entry) {
            Some(room) => Self { room, ..self },
            None => {
                let pages = entry.div_ceil(PAGE);
                Self { pages: self.pages + pages, room: pages * PAGE - entry }
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
