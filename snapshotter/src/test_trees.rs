//! Directory trees for tests.
#![allow(clippy::unwrap_used)]

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, mkdirat};

use crate::tree::{open, open_child};

/// Makes directories `d` in each other, `depth` of them. Paths would be too long.
pub(crate) fn make_deep(root: &Path, depth: usize) -> OwnedFd {
    let mut directory = open(root).unwrap();
    for _ in 0..depth {
        mkdirat(&directory, "d", Mode::from_raw_mode(0o755)).unwrap();
        directory = open_child(&directory, "d").unwrap();
    }
    directory
}
