//! Names of repositories, and the paths of layers, bundles and packs in them.
//!
//! ```text
//! .layers/<2 hex>/<64 hex of the layer's digest>/layerfs   the files of a layer, as DUCC publishes them
//! .bundles/.cvmfscatalog                                   requests a nested catalog, which others need not load
//! .bundles/<2 hex>/<64 hex of the chain ID>/image.bundle   a bundle
//! .bundles/manifests/<2 hex>/<64 hex of the manifest digest> -> ../../<2 hex>/<64 hex of the chain ID>
//! .bundles/packs/<2 hex>/<64 hex of its SHA-256>.pack      packs that bundles refer to
//! ```
//!
//! When an image is pulled, only the manifest digest is known; when a container starts, only the chain ID.

mod bundles;
mod layers;
mod name;

#[cfg(feature = "remote")]
pub(crate) use bundles::{BUNDLE_FILE, ManifestLink};
pub use bundles::{BUNDLES, bundle_path, manifest_path, pack_path};
pub(crate) use layers::{in_layer, path_in_image};
pub use name::{MAX_REPOSITORY_NAME, is_repository_name};
