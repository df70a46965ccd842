//! Figures about bundles and traces, for people and for checks.
//!
//! [`Summary`] and [`Directory`] describe one bundle. [`Files`] are what a bundle or a trace needs, by path, and a [`Diff`] compares two
//! of them; [`Growth`] is what a check looks at.

mod diff;
mod files;
mod growth;
mod sum;
mod summary;
#[cfg(test)]
mod tests;
mod tree;

pub use diff::{Change, Diff, Totals};
pub use files::{File, Files};
pub use growth::{Growth, ParsePercentageError, Percentage};
pub use sum::Sum;
pub use summary::{DIRECTORY_DEPTH, Summary};
pub use tree::Directory;

use crate::bundle::{Bundle, BundleObject};
use crate::path::RootPath;

/// The path under which a person looks for an object: its path in the container, or else below
/// `/cvmfs/<repository>`.
pub fn display_path(bundle: &Bundle, object: &BundleObject) -> RootPath {
    object.container_path().unwrap_or_else(|| {
        let mount = RootPath::new(format!("/cvmfs/{}", bundle.repository_of(object)));
        // Only paths that become too long are shown without their mount.
        mount.and_then(|mount| mount.append(&object.path)).unwrap_or_else(|_| object.path.clone())
    })
}

/// The directory of a file, cut to `depth` components.
fn directory(file: &RootPath, depth: usize) -> RootPath {
    file.parent().map_or_else(|| file.clone(), |parent| parent.first(depth))
}
