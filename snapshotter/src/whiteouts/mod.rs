//! What a published layer deletes.
//!
//! A layer says "delete `name` of the layers below" with a file `.wh.name`, and "delete all that the layers below have in
//! this directory" with a file `.wh..wh..opq`. CVMFS keeps these as the plain files they are in the tarball. overlayfs
//! has signs of its own (a character device 0/0, an attribute) and shows the plain files. So a layer with whiteouts gets
//! two small local directories, its *companions*, and takes three places in the stack of lower directories:
//!
//! ```text
//! above     a whiteout of overlayfs named `.wh.name` for each `.wh.name`: hides the sign itself, and that of a catalog
//! layerfs   as published
//! below     a whiteout named `name` for each `.wh.name`, the opaque mark on each directory with `.wh..wh..opq`:
//!           deletes in the layers below, and not in this one
//! ```
//!
//! A merged directory shows mode, owner and times of its topmost part, so the directories of the companion above are
//! copies of the layer's in these.
//!
//! The root of every published layer also holds `.cvmfscatalog`, the publisher's sign of a nested catalog, which is not
//! in the image. To hide it, the topmost published layer of a stack gets its companion above in any case; that hides the
//! signs of all layers below it.
//!
//! One thing is lost, as it is with containerd's own snapshotter: overlayfs does not look for the opaque mark on the root
//! of a layer, so `.wh..wh..opq` there deletes nothing.
//!
//! The image's bundle tells the whiteouts of a layer ([`Examined::told`]), or else [`walk`] finds them. That happens once; what is
//! known then is kept by [`crate::store`]. [`companion`] makes the directories.

pub mod companion;
pub mod walk;

use bincode::{Decode, Encode};
use bundles::bundle::{CATALOG, OPAQUE, PublishedLayer, WHITEOUT};

/// What there is to know of a published layer before it can be mounted.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Examined {
    /// Uid and gid of its root directory.
    pub owner: (u32, u32),
    /// Its whiteouts.
    pub whiteouts: Whiteouts,
}

/// The whiteouts of a layer: the directories with any, and all directories that lead there, parents first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct Whiteouts {
    /// Begins with the layer's root.
    pub directories: Vec<MarkedDirectory>,
}

/// A directory of a layer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct MarkedDirectory {
    /// The names that lead to it from the layer's root.
    pub path: Vec<Vec<u8>>,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of last change: seconds and nanoseconds.
    pub mtime: (i64, u32),
    /// Signs in it, which nobody shall see.
    pub hidden: Vec<Vec<u8>>,
    /// Names that are deleted from the layers below.
    pub deleted: Vec<Vec<u8>>,
    /// Everything is deleted from the layers below.
    pub opaque: bool,
}

impl Examined {
    /// What a bundle tells of a layer.
    pub fn told(layer: &PublishedLayer) -> Self {
        let owner = layer.directories.first().map(|root| (root.uid, root.gid)).unwrap_or_default();
        let directories = layer.directories.iter().map(|told| {
            let path: Vec<_> = told.path.components().map(<[u8]>::to_vec).collect();
            let (mode, uid, gid, mtime) = (told.mode, told.uid, told.gid, told.mtime);
            let mut directory = MarkedDirectory { path, mode, uid, gid, mtime, ..MarkedDirectory::default() };
            for name in &told.marks {
                directory.note(name, directory.path.is_empty());
            }
            directory
        });
        Self { owner, whiteouts: Whiteouts { directories: directories.collect() } }
    }
}

impl Whiteouts {
    /// Whether there are signs to hide, that of the catalog apart.
    pub fn any(&self) -> bool {
        self.directories.iter().any(|directory| directory.hidden.iter().any(|name| name.starts_with(WHITEOUT)))
    }

    /// Whether anything is deleted from the layers below.
    pub fn delete(&self) -> bool {
        self.directories.iter().any(MarkedDirectory::deletes)
    }
}

impl MarkedDirectory {
    fn deletes(&self) -> bool {
        self.opaque || !self.deleted.is_empty()
    }

    /// Takes note of a name if it is a sign.
    fn note(&mut self, name: &[u8], in_root: bool) -> bool {
        if in_root && name == CATALOG {
            self.hidden.push(name.to_vec());
            return true;
        }
        let Some(rest) = name.strip_prefix(WHITEOUT) else { return false };
        self.hidden.push(name.to_vec());
        if name == OPAQUE {
            self.opaque = true;
        } else if !rest.starts_with(WHITEOUT) && !matches!(rest, b"" | b"." | b"..") {
            // Others that begin with the prefix twice are AUFS's own and delete nothing.
            self.deleted.push(rest.to_vec());
        }
        true
    }
}

#[cfg(test)]
mod tests;
