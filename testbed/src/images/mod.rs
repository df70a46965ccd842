//! Images made on this machine: small ones from code, and real programs on a real Debian.
//!
//! ```text
//! <cache>/
//!   blobs/<64 hex>.tar.gz      layers, named by the digest of the compressed bytes
//!   <stage>-<key>/             what takes long to make (a root file system's layers, busybox), see [`cache`]
//!   debs-<suite>/              downloaded packages
//! ```
//!
//! The same code with the same packages gives the same bytes: entries are sorted, times are fixed or the packages' own,
//! gzip headers carry no time. So an image's digests are stable between runs, and what was published once fits again.

mod analysis;
mod builder;
mod busybox;
mod cache;
mod debian;
mod diff;
mod gcc;
mod layer_tar;
mod node;
mod python;
mod root;
mod rootfs;
mod scan;
mod science;
mod wheels;

pub use analysis::analysis;
pub use builder::ImageBuilder;
pub use busybox::{busybox, busybox_binary, pause, whiteouts};
pub use cache::cached;
pub use gcc::{PROGRAMS, gcc, gxx};
pub use layer_tar::{LayerTar, Owner};
pub use node::node;
pub use python::{PYTHON_COMMAND, plain, python, python_alone};
pub use root::root;
pub use science::science;

use std::path::PathBuf;

use bundles::image::{ChainId, Digest};

/// Media type of an image's manifest.
pub const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media type of an image's configuration.
pub const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
/// Media type of a layer.
pub const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// The time of every file that no package gives a time to, and of the images: 2025-01-01.
pub const EPOCH: u64 = 1_735_689_600;

/// A layer: a gzip-compressed tar file on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// The compressed tar file.
    pub blob: PathBuf,
    /// Digest of the compressed bytes.
    pub digest: Digest,
    /// Digest of the tar file.
    pub diff_id: Digest,
    /// Size of the compressed bytes.
    pub size: u64,
    /// Size of the tar file.
    pub diff_size: u64,
}

/// An image: layers, configuration, manifest. Has at least one layer.
#[derive(Debug, Clone)]
pub struct Image {
    /// Name below a registry, such as `demo/python`.
    pub repository: String,
    /// Tag.
    pub tag: String,
    /// From the lowest to the topmost.
    pub layers: Vec<Layer>,
    /// The OCI image configuration (JSON).
    pub config: Vec<u8>,
    /// The OCI image manifest (JSON).
    pub manifest: Vec<u8>,
}

impl Image {
    /// Chain ID of the topmost layer.
    pub fn chain_id(&self) -> ChainId {
        ChainId::from_diff_ids(&self.diff_ids()).expect("an image has at least one layer")
    }

    /// The diff IDs, lowest layer first.
    pub fn diff_ids(&self) -> Vec<Digest> {
        self.layers.iter().map(|layer| layer.diff_id).collect()
    }

    /// Digest of the manifest.
    pub fn manifest_digest(&self) -> Digest {
        Digest::sha256(&self.manifest)
    }

    /// Digest of the configuration.
    pub fn config_digest(&self) -> Digest {
        Digest::sha256(&self.config)
    }

    /// What a user types to get it from `registry` (`host:port`).
    pub fn reference(&self, registry: &str) -> String {
        format!("{registry}/{}:{}", self.repository, self.tag)
    }
}
