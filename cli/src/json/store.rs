//! Results of `store`.

use serde::Serialize;

use super::{Image, VerifiedBundle};

/// `store list`.
#[derive(Debug, Default, Serialize)]
pub(crate) struct StoredBundles {
    pub(crate) bundles: Vec<StoredBundle>,
    pub(crate) damaged: Vec<DamagedBundle>,
}

/// A bundle in the store.
#[derive(Debug, Serialize)]
pub(crate) struct StoredBundle {
    pub(crate) image: Image,
    /// Name of the image's repository.
    pub(crate) repository: String,
    pub(crate) objects: usize,
    /// Bytes to transfer.
    pub(crate) stored_bytes: u64,
    /// Size of the bundle itself.
    pub(crate) bundle_bytes: u64,
    /// RFC 3339.
    pub(crate) last_use: String,
    /// Mount point of the repository that the daemon read the bundle from; null if it was imported.
    pub(crate) mount: Option<String>,
}

/// A bundle in the store that cannot be read.
#[derive(Debug, Serialize)]
pub(crate) struct DamagedBundle {
    pub(crate) chain_id: String,
    pub(crate) error: String,
}

/// `store rm`.
#[derive(Debug, Serialize)]
pub(crate) struct RemovedBundles {
    pub(crate) removed_bundles: u64,
}

/// `store import`.
#[derive(Debug, Serialize)]
pub(crate) struct ImportedBundles {
    /// The images whose bundles are now in the store.
    pub(crate) images: Vec<Image>,
}

/// `store export`.
#[derive(Debug, Serialize)]
pub(crate) struct SavedBundle {
    /// Path of the file.
    pub(crate) bundle: String,
    pub(crate) image: Image,
}

/// `store verify`.
#[derive(Debug, Serialize)]
pub(crate) struct VerifiedStore {
    /// Bundles that can be read.
    pub(crate) intact_bundles: usize,
    pub(crate) damaged: Vec<DamagedBundle>,
    /// The bundles whose objects were looked up on a server; empty without `--repository`.
    pub(crate) verified: Vec<VerifiedBundle>,
}
