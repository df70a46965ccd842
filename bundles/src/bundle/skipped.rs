//! What is not in a bundle, by cause.

use serde::Serialize;

use crate::codec::{Decode, Encode};

/// Counts of traced paths, or of objects behind them, that are not in a bundle, by cause.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Encode, Decode)]
#[bincode(crate = "crate::codec")]
pub struct Skipped {
    /// Files in no layer: made by the container itself or by the runtime.
    pub not_in_image: u64,
    /// Files that may be in a layer that the repository does not have.
    pub layer_not_in_repository: u64,
    /// Files of another repository that was not available, or no longer has them.
    pub not_in_other_repository: u64,
    /// Files stored outside the repository's object storage.
    pub external: u64,
    /// Files stored uncompressed.
    pub uncompressed: u64,
    /// Files with another hash than SHA-1, which cannot be verified here.
    pub other_hash: u64,
    /// Files that the container wrote without reading their content in the image.
    pub written: u64,
    /// Chunks that were not read, of files with other chunks that were read.
    pub untouched_chunks: u64,
    /// Objects that too few of the traces used.
    pub rare: u64,
    /// Objects that exceed the transfer budget.
    pub over_budget: u64,
}

impl Skipped {
    /// Each count with its description, in words that follow a number.
    pub fn by_cause(&self) -> [(u64, &'static str); 10] {
        [
            (self.not_in_image, "traced files not in the image (made by the container or its runtime)"),
            (self.layer_not_in_repository, "traced files that may be in layers the repository does not have"),
            (self.not_in_other_repository, "traced files of other repositories, not found there"),
            (self.external, "traced files stored outside the repository's object storage"),
            (self.uncompressed, "traced files stored uncompressed"),
            (self.other_hash, "traced files with a hash that cannot be verified"),
            (self.written, "traced files written by the container without reading their content in the image"),
            (self.untouched_chunks, "chunks that were not read"),
            (self.rare, "objects used by too few traces"),
            (self.over_budget, "objects over the transfer budget"),
        ]
    }
}
