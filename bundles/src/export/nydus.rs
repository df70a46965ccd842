//! nydus: a list of paths, one a line.
//!
//! Read from standard input by `nydusify convert --prefetch-patterns` and by `nydus-image create --prefetch-policy fs`; a
//! directory in it would stand for all that is below. Lines must be absolute paths and are trimmed, and one that is not
//! UTF-8 makes the whole list unreadable, so such names are left out. Source: `getPrefetchPatterns` of `nydusify`, and
//! `builder/src/core/prefetch.rs` and `docs/prefetch.md` of dragonflyoss/nydus.

use super::{Export, Files};

/// The files as a list of patterns.
pub fn nydus(files: &Files) -> Export {
    let (paths, inexpressible) = files.texts(|path| path.trim() == path && !path.contains(['\n', '\r']));
    let content = paths.iter().flat_map(|path| [path.as_bytes(), b"\n"]).collect::<Vec<_>>().concat();
    Export { content, inexpressible }
}
