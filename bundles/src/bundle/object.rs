//! One object of a bundle.

use serde::Serialize;

use super::Need;
use crate::cvmfs::{in_layer, path_in_image};
use crate::object::{ContentHash, ObjectKind};
use crate::path::RootPath;

/// One object of a bundle.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BundleObject {
    /// Its name.
    pub hash: ContentHash,
    /// File, chunk or catalog.
    pub kind: ObjectKind,
    /// Which of the bundle's repositories has it.
    pub repository: u16,
    /// Bytes on the server.
    pub stored_size: u64,
    /// Bytes in a cache.
    pub raw_size: u64,
    /// Where in the file its bytes begin; 0 unless it is a chunk.
    pub offset: u64,
    /// A path in the repository that it is for, for people and for readers through the mount.
    pub path: RootPath,
    /// How much it is needed.
    pub need: Need,
    /// Where it is in a pack.
    pub packed: Option<Packed>,
}

/// A place in a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Packed {
    /// Which of the bundle's packs.
    pub pack: u16,
    /// Where its stored bytes begin in the pack file.
    pub offset: u64,
}

impl BundleObject {
    /// A whole file, of which nothing more is told, that every start needs.
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

    /// Where a container sees the file, if it is of a published layer; `None` for catalogs and for other repositories.
    pub fn container_path(&self) -> Option<RootPath> {
        let of_the_image = self.repository == 0 && matches!(self.kind, ObjectKind::File | ObjectKind::Chunk);
        of_the_image.then(|| path_in_image(&self.path))?
    }

    /// The layer that it is of, by the 64 hex digits of its digest.
    pub fn layer(&self) -> Option<&[u8]> {
        Some(in_layer(&self.path).filter(|_| self.repository == 0)?.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_a_layer_is_shown_as_the_container_sees_it() {
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
