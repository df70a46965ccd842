//! Publishing bundles beside their images: in a repository or in a registry.
//!
//! [`entries`] lists the tree, whose paths are in [`crate::layout`]. It is written into a directory ([`publish`]), into a tar file ([`tarball`]), or inside a transaction of
//! the repository ([`CvmfsServer`]). [`push`] puts the same files beside the image in its registry. `docs/src/publishing.md` is the
//! operator's guide.

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
pub use registry::{IndexError, with_entry};

use crate::bundle::Bundle;
use crate::codec::FormatError;
use crate::file::FileError;
use crate::layout::{BUNDLES, ManifestLink, bundle_path, pack_path};
use crate::pack::PackFile;
use crate::registry::RegistryError;

/// A bundle cannot be published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The bundle cannot be encoded.
    #[error("the bundle cannot be published: {0}")]
    Bundle(#[from] FormatError),
    /// `cvmfs_server` failed.
    #[error("{command} failed, {outcome}: {reason}")]
    Server {
        /// The command that failed.
        command: String,
        /// What this means for the repository.
        outcome: &'static str,
        /// Its output.
        reason: String,
    },
    /// Publishing failed, and the transaction could not be aborted.
    #[error("{error}; the transaction of {fqrn} is still open: {abort}. Run `cvmfs_server abort {fqrn}`")]
    StillOpen {
        /// The repository.
        fqrn: String,
        /// The error that made publishing fail.
        error: Box<PublishError>,
        /// Why the transaction could not be aborted.
        abort: String,
    },
    /// The name is not a repository name.
    #[error("{0:?} is not a repository name: expected a name such as unpacked.cern.ch")]
    Fqrn(String),
    /// The registry cannot be used.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The bundle has no manifest digest, which a registry needs.
    #[error("the bundle has no manifest digest of its image; build it again from the image's reference")]
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

/// The tree of one bundle, in an order in which readers always find what a name leads to: packs before the
/// bundle that refers to them, the alias last.
fn entries<'a>(bundle: &Bundle, packs: &'a [PackFile]) -> Result<Vec<Entry<'a>>, FormatError> {
    let marker = Entry { path: format!("{BUNDLES}/.cvmfscatalog"), content: Content::Bytes(Vec::new()) };
    let packs =
        packs.iter().map(|pack| Entry { path: pack_path(&pack.reference().digest), content: Content::Pack(pack) });
    let content = Content::Bytes(bundle.to_bytes()?);
    let file = Entry { path: bundle_path(&bundle.image.chain_id), content };
    let alias = bundle.image.manifest.map(|manifest| {
        let link = ManifestLink::new(&manifest, &bundle.image.chain_id);
        Entry { path: link.path, content: Content::Link(link.target) }
    });
    Ok([marker].into_iter().chain(packs).chain([file]).chain(alias).collect())
}
