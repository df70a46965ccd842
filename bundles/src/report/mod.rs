//! What is in bundles and traces, in figures, for people and for checks.
//!
//! [`Summary`] and [`Directory`] describe one bundle. [`Files`] are what a bundle or a trace needs, by path, and a [`Diff`]
//! compares two of them; [`Growth`] is what a check says of it.

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
pub use growth::{BadPercentage, Growth, Percentage};
pub use sum::Sum;
pub use summary::{DIRECTORY_DEPTH, Summary};
pub use tree::Directory;

use crate::bundle::{Bundle, BundleObject};
use crate::path::RootPath;

/// Where a person looks for an object: its path in the container, or else that below `/cvmfs/<repository>`.
pub fn place(bundle: &Bundle, object: &BundleObject) -> RootPath {
    object.container_path().unwrap_or_else(|| {
        let mount = RootPath::new(format!("/cvmfs/{}", bundle.repository_of(object)));
        // Only a path that is too long with it goes without its mount.
        mount.and_then(|mount| mount.below(&object.path)).unwrap_or_else(|_| object.path.clone())
    })
}

/// The directory of a file, cut to so many components.
fn directory(file: &RootPath, depth: usize) -> RootPath {
    file.parent().map_or_else(|| file.clone(), |parent| parent.first(depth))
}
