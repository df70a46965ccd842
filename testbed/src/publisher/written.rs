//! A catalog that is stored, and its counters.

use bundles::object::ContentHash;

/// Names of the counters, which exist for the catalog itself (`self_`) and for those below it (`subtree_`).
pub(super) const COUNTERS: [&str; 12] = [
    "chunked",
    "chunked_size",
    "chunks",
    "dir",
    "external",
    "external_file_size",
    "file_size",
    "nested",
    "regular",
    "special",
    "symlink",
    "xattr",
];

/// Counters in the order of [`COUNTERS`].
#[derive(Debug, Clone, Default)]
pub(super) struct Counts(pub(super) [u64; 12]);

impl Counts {
    pub(super) fn add(&mut self, counter: &str, by: u64) {
        for (value, name) in self.0.iter_mut().zip(COUNTERS) {
            if name == counter {
                *value += by;
            }
        }
    }

    pub(super) fn add_all(&mut self, other: &Counts) {
        self.0.iter_mut().zip(other.0).for_each(|(value, by)| *value += by);
    }
}

/// A catalog that is stored.
#[derive(Debug, Clone)]
pub(super) struct Written {
    pub(super) hash: ContentHash,
    /// Size of the database.
    pub(super) size: u64,
    /// Counters of it and the catalogs below it.
    pub(super) counts: Counts,
}
