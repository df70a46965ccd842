//! What is not in a bundle, and why.

use serde::Serialize;

/// How many traced paths, or objects behind them, were left out of a bundle, by cause.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, bincode::Encode, bincode::Decode)]
pub struct Skipped {
    /// Files in no layer: made by the container itself, or by the runtime.
    pub not_in_image: u64,
    /// Files in a layer that the repository does not have.
    pub layer_not_in_repository: u64,
    /// Files of another repository that nobody could be asked about, or that it no longer has.
    pub not_in_other_repository: u64,
    /// Files kept outside the repository's storage.
    pub external: u64,
    /// Files stored uncompressed.
    pub uncompressed: u64,
    /// Files named by another hash than SHA-1, which cannot be verified here.
    pub other_hash: u64,
    /// Files the container made or changed without having read what the image has.
    pub written: u64,
    /// Chunks of files of which other parts were read.
    pub untouched_chunks: u64,
    /// Objects that too few of the traces used.
    pub rare: u64,
    /// Objects for which the byte budget had no room.
    pub over_budget: u64,
}

impl Skipped {
    /// Each count with what it counts, in words that follow a number.
    pub fn by_cause(&self) -> [(u64, &'static str); 10] {
        [
            (self.not_in_image, "traced files that are not in the image (made by the container or its runtime)"),
            (self.layer_not_in_repository, "traced files that may be in layers that the repository does not have"),
            (self.not_in_other_repository, "traced files of other repositories, which were not found there"),
            (self.external, "traced files that are kept outside the repository's storage"),
            (self.uncompressed, "traced files that are stored uncompressed"),
            (self.other_hash, "traced files under a hash that cannot be verified"),
            (self.written, "traced files that the container wrote without having read what the image has"),
            (self.untouched_chunks, "chunks of files of which other parts were read"),
            (self.rare, "objects that too few of the traces used"),
            (self.over_budget, "objects that the byte budget has no room for"),
        ]
    }
}
