//! Snapshots: what they are, the rules for changing them, and how they are kept.
//!
//! [`state`] holds the rules (keys, parents, kinds), without disk or clock. [`store`] keeps the snapshots in a database,
//! [`directories`] keeps their files. [`labels`] and [`filter`] are containerd's. [`names`] are those of committed layers. [`usage`] measures directories, [`remove`] deletes them.

pub mod directories;
pub mod filter;
pub mod labels;
pub mod names;
pub mod remove;
pub mod state;
pub mod store;
pub mod usage;

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bundles::codec::{Decode, Encode};
use bundles::image::Digest;
use containerd_snapshots::{Info, Kind as ApiKind};

use labels::Labels;

/// What can be done with a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[bincode(crate = "bundles::codec")]
pub enum Kind {
    /// A read-only mount of the parent.
    View,
    /// Can be written and committed: a layer being unpacked, or a container's root file system.
    Active,
    /// Can be a parent; cannot be mounted or changed.
    Committed,
}

impl Kind {
    /// The word that containerd's filters and our metrics use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Active => "active",
            Self::Committed => "committed",
        }
    }
}

/// Disk usage of a snapshot, without its parents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
#[bincode(crate = "bundles::codec")]
pub struct Usage {
    /// Files of any type; a file with several hard links counts once.
    pub inodes: u64,
    /// Bytes of allocated blocks.
    pub size: u64,
}

/// Where the files of a snapshot are.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[bincode(crate = "bundles::codec")]
pub enum Content {
    /// In the snapshot's own directory below the root.
    Local,
    /// In a published layer.
    Cvmfs(CvmfsLayer),
}

/// A published layer. It holds everything that mounting needs, so only the first call reads the repository.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[bincode(crate = "bundles::codec")]
pub struct CvmfsLayer {
    /// Fully qualified name of the repository.
    pub repository: String,
    /// Digest of the compressed layer, which is the layer's name in the repository.
    pub digest: Digest,
    /// The layer's root directory, below the repository's mount point.
    pub layerfs: PathBuf,
    /// User and group of the root directory.
    pub owner: (u32, u32),
    /// The layer has whiteouts, so its companion above (see [`crate::whiteouts`]) is always mounted with it. The companion of
    /// any other layer is mounted only where the layer is the topmost published one.
    pub companion_above: bool,
    /// Some whiteouts delete something in the layers below, so the layer has a companion below as well.
    pub companion_below: bool,
}

/// A snapshot. Its name is the key under which it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[bincode(crate = "bundles::codec")]
pub struct Snapshot {
    /// Names the snapshot's directory; never reused.
    pub id: u64,
    /// What can be done with the snapshot.
    pub kind: Kind,
    /// Name of the parent.
    pub parent: Option<String>,
    /// Labels set by containerd.
    pub labels: Labels,
    /// When the snapshot was prepared, or committed.
    pub created: SystemTime,
    /// When the labels were last set.
    pub updated: SystemTime,
    /// Measured at commit; zero until then.
    pub usage: Usage,
    /// Where the files are.
    pub content: Content,
}

impl Snapshot {
    /// The published layer, unless the files are local.
    pub fn cvmfs(&self) -> Option<&CvmfsLayer> {
        match &self.content {
            Content::Local => None,
            Content::Cvmfs(layer) => Some(layer),
        }
    }

    /// Digest of the compressed layer; for an unpacked layer, as containerd gave it.
    pub fn layer_digest(&self) -> Option<String> {
        match &self.content {
            Content::Local => self.labels.get(labels::LAYER_DIGEST).cloned(),
            Content::Cvmfs(layer) => Some(layer.digest.to_string()),
        }
    }

    /// The layer's root in CVMFS, unless the files are local.
    pub fn layerfs(&self) -> Option<&Path> {
        self.cvmfs().map(|layer| &*layer.layerfs)
    }

    /// The snapshot `name` as containerd's API shows it.
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
