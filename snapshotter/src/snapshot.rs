//! What a snapshot is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bincode::{Decode, Encode};
use bundles::image::Digest;
use containerd_snapshots::{Info, Kind as ApiKind};

/// What can be done with a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Kind {
    /// Read-only look at its parent.
    View,
    /// Can be written and committed: a layer being unpacked, or a container's root file system.
    Active,
    /// Can be a parent, cannot be mounted or changed.
    Committed,
}

impl Kind {
    /// The word used in filters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Active => "active",
            Self::Committed => "committed",
        }
    }
}

/// Disk use of a snapshot, without its parents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
pub struct Usage {
    /// Files of any type; a file with several links counts once.
    pub inodes: u64,
    /// Bytes of allocated blocks.
    pub size: u64,
}

/// Where the files of a snapshot are.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Content {
    /// In its own directory below the root.
    Local,
    /// In a published layer.
    Cvmfs(CvmfsLayer),
}

/// A published layer. All that mounting needs is kept here, so that no call after the first touches the repository.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct CvmfsLayer {
    /// The repository's name.
    pub repository: String,
    /// Digest of the compressed layer, by which it is published.
    pub digest: Digest,
    /// The layer's root directory, below the repository's mount point.
    pub layerfs: PathBuf,
    /// Uid and gid of that directory.
    pub owner: (u32, u32),
    /// It has whiteouts, so its companion above (see [`crate::whiteouts`]) is always mounted with it; else only where the
    /// layer is the topmost published one.
    pub companion_above: bool,
    /// Some of them delete something, so there is one below, too.
    pub companion_below: bool,
}

/// A snapshot. Its name is not in it: it is the key under which it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Snapshot {
    /// Names its directory; never used again.
    pub id: u64,
    /// Its kind.
    pub kind: Kind,
    /// Name of its parent.
    pub parent: Option<String>,
    /// Labels set by containerd.
    pub labels: BTreeMap<String, String>,
    /// When it was made, or committed.
    pub created: SystemTime,
    /// When its labels were last set.
    pub updated: SystemTime,
    /// Set when it is committed.
    pub usage: Usage,
    /// Where its files are.
    pub content: Content,
}

impl Snapshot {
    /// The layer's root in CVMFS, if it comes from there.
    pub fn layerfs(&self) -> Option<&Path> {
        match &self.content {
            Content::Local => None,
            Content::Cvmfs(layer) => Some(&layer.layerfs),
        }
    }

    /// In containerd's terms.
    pub fn info(&self, name: &str) -> Info {
        Info {
            kind: match self.kind {
                Kind::View => ApiKind::View,
                Kind::Active => ApiKind::Active,
                Kind::Committed => ApiKind::Committed,
            },
            name: name.to_owned(),
            parent: self.parent.clone().unwrap_or_default(),
            labels: self.labels.clone().into_iter().collect(),
            created_at: self.created,
            updated_at: self.updated,
        }
    }
}

/// Labels that containerd gives to the Prepare of a layer, and the last two to that of a container.
pub mod label {
    /// The chain ID of the snapshot to be made. Without it there is no lazy pull.
    pub const SNAPSHOT_REF: &str = "containerd.io/snapshot.ref";
    /// Digest of the compressed layer.
    pub const LAYER_DIGEST: &str = "containerd.io/snapshot/cri.layer-digest";
    /// Digest of the image's manifest.
    pub const MANIFEST_DIGEST: &str = "containerd.io/snapshot/cri.manifest-digest";
    /// The reference that is being pulled.
    pub const IMAGE_REF: &str = "containerd.io/snapshot/cri.image-ref";
    /// Which users of the host the container's users are.
    pub const UID_MAPPING: &str = "containerd.io/snapshot/uidmapping";
    /// The same for groups.
    pub const GID_MAPPING: &str = "containerd.io/snapshot/gidmapping";
}
