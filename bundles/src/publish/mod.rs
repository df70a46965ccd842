//! Bundles beside the images they are for: in a repository's tree, and in a registry.
//!
//! ```text
//! .bundles/.cvmfscatalog                                   a catalog of its own, so that others need not know it
//! .bundles/<2 hex>/<64 hex of the chain ID>/image.bundle   the bundle
//! .bundles/manifests/<2 hex>/<64 hex of the manifest digest> -> ../../<2 hex>/<64 hex of the chain ID>
//! .bundles/packs/<2 hex>/<64 hex of its SHA-256>.pack      packs that bundles point into
//! ```
//!
//! At a pull only the manifest's digest is known, at a container's start only the chain ID.
//!
//! [`entries`] is the tree as a list; it is written into a directory ([`publish`]), into a tar file ([`tarball`]), or
//! inside a transaction of the repository's server ([`CvmfsServer`]). [`push`] puts the same files beside the image in
//! its registry. What an operator should know of all this is in `docs/src/publishing.md`.

mod cvmfs_server;
mod directory;
mod registry;
mod tarball;
#[cfg(test)]
mod tests;

pub use cvmfs_server::CvmfsServer;
pub use directory::publish;
pub use registry::{Pushed, push};
pub use tarball::tarball;

// For fuzz targets.
#[doc(hidden)]
pub use registry::with_entry;

use crate::bundle::Bundle;
use crate::codec::BadFile;
use crate::file::FileError;
use crate::image::registry::RegistryError;
use crate::image::{ChainId, Digest};
use crate::pack::PackFile;

/// The directory below a repository's root.
pub const DIRECTORY: &str = ".bundles";

const FILE: &str = "image.bundle";

/// Where the bundle of a chain ID is, relative to the repository's root.
pub fn bundle_path(chain_id: &ChainId) -> String {
    format!("{DIRECTORY}/{}/{FILE}", fan_out(&chain_id.0))
}

/// Where the bundle of a manifest is found, relative to the repository's root.
pub fn manifest_path(manifest: &Digest) -> String {
    format!("{}/{FILE}", manifest_link(manifest))
}

/// Where a pack is, relative to the repository's root.
pub fn pack_path(pack: &Digest) -> String {
    format!("{DIRECTORY}/packs/{}.pack", fan_out(pack))
}

fn manifest_link(manifest: &Digest) -> String {
    format!("{DIRECTORY}/manifests/{}", fan_out(manifest))
}

fn fan_out(digest: &Digest) -> String {
    let hex = digest.hex();
    format!("{}/{hex}", &hex[..2])
}

/// Why a bundle could not be published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The bundle cannot be written.
    #[error("the bundle cannot be published: {0}")]
    Bundle(#[from] BadFile),
    /// The repository's server tools did not do it.
    #[error("{command} failed, {outcome}: {why}")]
    Server {
        /// What was run.
        command: String,
        /// What that means for the repository.
        outcome: &'static str,
        /// What it said.
        why: String,
    },
    /// An error inside a transaction that could not be taken back.
    #[error("{error}; and the transaction of {fqrn} is still open: {abort}. Run `cvmfs_server abort {fqrn}`")]
    StillOpen {
        /// The repository.
        fqrn: String,
        /// What failed first.
        error: Box<PublishError>,
        /// Why it cannot be taken back.
        abort: String,
    },
    /// Not a repository.
    #[error("{0:?} is not a repository's name: expected one like unpacked.cern.ch")]
    Fqrn(String),
    /// The registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A bundle that cannot be tied to an image in a registry.
    #[error("the bundle does not tell the manifest of its image; build it again from the image's reference")]
    NoManifest,
}

/// A file or link of the tree.
struct Entry<'a> {
    /// Relative to the repository's root.
    path: String,
    content: Content<'a>,
}

enum Content<'a> {
    Bytes(Vec<u8>),
    Pack(&'a PackFile),
    Link(String),
}

/// The tree of one bundle. A reader who follows while it is written finds what the names lead to: packs come before the
/// bundle that points into them, the alias comes last.
fn entries<'a>(bundle: &Bundle, packs: &'a [PackFile]) -> Result<Vec<Entry<'a>>, BadFile> {
    let marker = Entry { path: format!("{DIRECTORY}/.cvmfscatalog"), content: Content::Bytes(Vec::new()) };
    let packs =
        packs.iter().map(|pack| Entry { path: pack_path(&pack.reference().digest), content: Content::Pack(pack) });
    let content = Content::Bytes(bundle.to_bytes()?);
    let file = Entry { path: bundle_path(&bundle.image.chain_id), content };
    let alias = bundle.image.manifest.map(|manifest| Entry {
        path: manifest_link(&manifest),
        content: Content::Link(format!("../../{}", fan_out(&bundle.image.chain_id.0))),
    });
    Ok([marker].into_iter().chain(packs).chain([file]).chain(alias).collect())
}
