//! Objects of a bundle, and their locations in packs.

use serde::Serialize;

use super::{Need, PackIndex};
use crate::layout::{in_layer, path_in_image};
use crate::object::{ContentHash, ObjectKind};
use crate::path::RootPath;

/// An object of a bundle.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BundleObject {
    /// Hash that names the object.
    pub hash: ContentHash,
    /// File, chunk or catalog.
    pub kind: ObjectKind,
    /// Index of its repository in [`Bundle::repositories`](super::Bundle::repositories).
    pub repository: u16,
    /// Size on the server in bytes; 0 if unknown.
    pub stored_size: u64,
    /// Size in a cache in bytes.
    pub raw_size: u64,
    /// Offset of its bytes in the file; 0 unless it is a chunk.
    pub offset: u64,
    /// A path in the repository that leads to it, for people and for reads through the mount.
    pub path: RootPath,
    /// How likely it is needed, and when.
    pub need: Need,
    /// Its location in a pack, if it is in one.
    pub packed: Option<PackLocation>,
}

/// A location in a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PackLocation {
    /// The pack.
    pub pack: PackIndex,
    /// Offset of the stored bytes in the pack file.
    pub offset: u64,
}

impl BundleObject {
    /// A whole file of the first repository that every start needs; its stored size is unknown.
    pub fn file(hash: ContentHash, raw_size: u64, path: RootPath) -> Self {
        Self {
            hash,
            kind: ObjectKind::File,
            repository: 0,
            stored_size: 0,
            raw_size,
            offset: 0,
            path,
            need: Need::always(1),
            packed: None,
        }
    }

    /// The path at which a container sees the file, if it belongs to a published layer; `None` for catalogs
    /// and for other repositories.
    pub fn container_path(&self) -> Option<RootPath> {
        let is_image_file = self.repository == 0 && matches!(self.kind, ObjectKind::File | ObjectKind::Chunk);
        is_image_file.then(|| path_in_image(&self.path))?
    }

    /// The layer it belongs to, by the 64 hex digits of the layer's digest.
    pub fn layer(&self) -> Option<&[u8]> {
        Some(in_layer(&self.path).filter(|_| self.repository == 0)?.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_layers_have_container_paths() {
        let hex = "ab".repeat(32);
        let object = |path: &str| BundleObject::file(ContentHash::sha1([1; 20]), 1, RootPath::new(path).unwrap());
        let shown = |object: &BundleObject| object.container_path().map(|path| path.to_string());
        let file = object(&format!("/.layers/ab/{hex}/layerfs/usr/lib/a"));
        assert_eq!(shown(&file).as_deref(), Some("/usr/lib/a"));
        assert_eq!(shown(&BundleObject { kind: ObjectKind::Chunk, ..file.clone() }).as_deref(), Some("/usr/lib/a"));
        assert_eq!(file.layer(), Some(hex.as_bytes()));
        for other in [
            BundleObject { kind: ObjectKind::Catalog, ..file.clone() },
            BundleObject { repository: 1, ..file },
            object(&format!("/.layers/ab/{hex}/layerfs")),
            object(&format!("/.layers/cd/{hex}/layerfs/a")),
            object(&format!("/.layers/ab/{}/layerfs/a", &hex[1..])),
            object(&format!("/.flat/ab/{hex}/layerfs/a")),
            object("/usr/lib/a"),
        ] {
            assert_eq!(shown(&other), None, "{other:?}");
        }
    }
}
