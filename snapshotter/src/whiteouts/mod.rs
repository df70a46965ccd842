//! What a published layer deletes from the layers below it.
//!
//! A layer of an image says "delete `name` from the layers below" with a file `.wh.name`, and "delete everything that the
//! layers below have in this directory" with a file `.wh..wh..opq`. CVMFS publishes both as the plain files that they are in
//! the layer's tar file. overlayfs has its own whiteouts (a character device 0/0) and opaque directories (an extended
//! attribute), and would show the plain files. So a layer with whiteouts gets two small local directories, its
//! *companions*, and adds up to three lower directories to a mount:
//!
//! ```text
//! above     a whiteout of overlayfs named `.wh.name` for each `.wh.name`: hides the plain file, and that of a catalog
//! layerfs   as published
//! below     a whiteout named `name` for each `.wh.name`, and the opaque attribute on each directory with `.wh..wh..opq`:
//!           deletes in the layers below, not in this one
//! ```
//!
//! A merged directory shows mode, owner and times of its topmost part, so the directories of the companion above are
//! copies of the layer's directories in these.
//!
//! The root of every published layer also has a file `.cvmfscatalog`, which marks a nested catalog and is not part of the
//! image. To hide it, the topmost published layer of a mount always gets its companion above; that also hides the files
//! in all layers below it.
//!
//! One thing is lost, as it is with containerd's own snapshotter: overlayfs does not read the opaque attribute of a layer's
//! root, so `.wh..wh..opq` there deletes nothing.
//!
//! The whiteouts of a layer come from the image's bundle ([`LayerScan::from_bundle`]) or from listing the layer
//! ([`walk`]). That happens once per layer; the result is kept in the database. [`companion`] makes the directories.

pub mod companion;
pub mod walk;

use std::collections::BTreeMap;

use bundles::bundle::{CATALOG_MARKER, OPAQUE, PublishedLayer, WHITEOUT};
use bundles::codec::{Decode, Encode};
use bundles::image::Digest;

/// Greatest depth of a directory with whiteouts. Making a companion keeps a descriptor open for each level.
pub const MAX_DEPTH: usize = 512;

/// Everything that is kept about a published layer.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[bincode(crate = "bundles::codec")]
pub struct LayerScan {
    /// User and group of the layer's root directory.
    pub owner: (u32, u32),
    /// The whiteouts in the layer.
    pub whiteouts: Whiteouts,
    /// Whether the whiteouts are those that a bundle lists, and the layer itself has not been listed yet.
    pub is_from_bundle: bool,
    /// Digest of the uncompressed layer, if the repository states it.
    pub diff_id: Option<Digest>,
}

/// The whiteouts of a layer: the directories that have any and the directories that lead there, parents first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
#[bincode(crate = "bundles::codec")]
pub struct Whiteouts {
    /// Begins with the layer's root.
    pub directories: Vec<WhiteoutDirectory>,
}

/// A directory of a layer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
#[bincode(crate = "bundles::codec")]
pub struct WhiteoutDirectory {
    /// The names that lead to the directory from the layer's root.
    pub path: Vec<Vec<u8>>,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time: seconds and nanoseconds.
    pub mtime: (i64, u32),
    /// Plain files that stand for whiteouts or a catalog and must not be visible.
    pub hidden: Vec<Vec<u8>>,
    /// Names deleted from the layers below.
    pub deleted: Vec<Vec<u8>>,
    /// Everything in this directory is deleted from the layers below.
    pub opaque: bool,
}

impl LayerScan {
    /// The scan that a bundle has of a layer.
    pub fn from_bundle(layer: &PublishedLayer) -> Self {
        let owner = layer.directories.first().map(|root| (root.uid, root.gid)).unwrap_or_default();
        let directories = layer.directories.iter().map(|listed| {
            let mut directory = WhiteoutDirectory {
                path: listed.path.components().map(<[u8]>::to_vec).collect(),
                mode: listed.mode,
                uid: listed.uid,
                gid: listed.gid,
                mtime: listed.mtime,
                ..WhiteoutDirectory::default()
            };
            for name in &listed.whiteouts {
                directory.add_if_whiteout(name);
            }
            directory
        });
        let whiteouts = Whiteouts { directories: directories.collect() };
        Self { owner, whiteouts, is_from_bundle: true, diff_id: None }
    }
}

impl Whiteouts {
    /// Whether the layer has whiteouts; the file of its catalog does not count.
    pub fn any(&self) -> bool {
        self.directories.iter().any(|directory| directory.hidden.iter().any(|name| name.starts_with(WHITEOUT)))
    }

    /// Whether two scans of a layer found the same whiteouts. Attributes are not compared: not all clients show nanoseconds.
    pub fn delete_the_same_as(&self, other: &Self) -> bool {
        let of = |whiteouts: &Self| -> BTreeMap<Vec<Vec<u8>>, [Vec<Vec<u8>>; 2]> {
            let sorted = |names: &[Vec<u8>]| {
                let mut names = names.to_vec();
                names.sort_unstable();
                names
            };
            // Without those that only lead to others. Opaque directories have a hidden file.
            let with_any = whiteouts.directories.iter().filter(|directory| !directory.hidden.is_empty());
            with_any
                .map(|directory| (directory.path.clone(), [&directory.hidden, &directory.deleted].map(|n| sorted(n))))
                .collect()
        };
        of(self) == of(other)
    }

    /// Whether the whiteouts delete anything from the layers below.
    pub fn delete_anything(&self) -> bool {
        self.directories.iter().any(WhiteoutDirectory::deletes_anything)
    }
}

impl WhiteoutDirectory {
    fn deletes_anything(&self) -> bool {
        self.opaque || !self.deleted.is_empty()
    }

    /// Adds the file `name` of this directory if it stands for a whiteout or, in the layer's root, for a catalog.
    fn add_if_whiteout(&mut self, name: &[u8]) {
        if !is_special(name, self.path.is_empty()) {
            return;
        }
        self.hidden.push(name.to_vec());
        let Some(deleted) = name.strip_prefix(WHITEOUT) else { return };
        if name == OPAQUE {
            self.opaque = true;
        } else if !deleted.starts_with(WHITEOUT) && !matches!(deleted, b"" | b"." | b"..") {
            // Other names that begin with `.wh..wh.` belong to AUFS and delete nothing.
            self.deleted.push(deleted.to_vec());
        }
    }
}

/// Whether a file with this name stands for a whiteout or, in a layer's root, for a catalog.
fn is_special(name: &[u8], in_root: bool) -> bool {
    name.starts_with(WHITEOUT) || (in_root && name == CATALOG_MARKER)
}

#[cfg(test)]
mod as_root;
