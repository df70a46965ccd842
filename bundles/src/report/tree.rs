//! A bundle as a tree of directories.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::{Sum, display_path};
use crate::bundle::Bundle;

/// A directory, with everything below it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Directory {
    /// All objects below it.
    pub sum: Sum,
    /// Its subdirectories, by name.
    pub directories: BTreeMap<Vec<u8>, Directory>,
}

impl Directory {
    /// The root directory of `bundle`, with subdirectories down to `depth`.
    pub fn from_bundle(bundle: &Bundle, depth: usize) -> Self {
        let mut root = Self::default();
        for object in &bundle.objects {
            root.sum.add(object);
            let path = display_path(bundle, object);
            let above = path.components().count().saturating_sub(1);
            let mut at = &mut root;
            for name in path.components().take(above.min(depth)) {
                at = at.directories.entry(name.to_vec()).or_default();
                at.sum.add(object);
            }
        }
        root
    }

    /// Its subdirectories, the largest first.
    pub fn by_bytes(&self) -> Vec<(&[u8], &Directory)> {
        let mut all: Vec<_> = self.directories.iter().map(|(name, directory)| (name.as_slice(), directory)).collect();
        all.sort_by_key(|(_, directory)| Reverse(directory.sum.raw));
        all
    }
}
