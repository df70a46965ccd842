//! Answering Prepare and View: creating a snapshot.
//!
//! [`plan`] reads from the state, in one step, everything that the answer depends on. [`verify`] compares a published layer with what
//! containerd asks for, [`published`] creates its committed snapshot, [`local`] creates all other snapshots.

pub mod local;
pub mod plan;
pub mod published;
pub mod verify;

use crate::error::Error;
use crate::idmap;
use crate::snapshots::Kind;
use crate::snapshots::labels::{self, Labels, LayerLabels};

/// A Prepare or View, with its labels checked.
#[derive(Debug, Clone)]
pub struct Request {
    /// `Active` for Prepare, `View` for View.
    pub kind: Kind,
    /// Key of the snapshot to create.
    pub key: String,
    /// Name of the parent.
    pub parent: Option<String>,
    /// Labels of the snapshot to create.
    pub labels: Labels,
    /// For a container in a user namespace: the user and group of the host that are its root.
    pub mapped_root: Option<(u32, u32)>,
}

impl Request {
    /// Checks the labels. containerd sends an empty `parent` for a snapshot without parent.
    pub fn new(kind: Kind, key: String, parent: String, labels: Labels) -> Result<Self, Error> {
        labels::check(&labels)?;
        let mapped_root = idmap::mapped_root(&labels)?;
        Ok(Self { kind, key, parent: Some(parent).filter(|parent| !parent.is_empty()), labels, mapped_root })
    }

    /// The labels of a layer, if this is the Prepare of one.
    pub fn layer(&self) -> Option<LayerLabels<'_>> {
        if self.kind == Kind::Active { LayerLabels::read(&self.labels) } else { None }
    }

    /// Whether containerd is going to unpack a layer into the snapshot.
    pub fn is_unpacking(&self) -> bool {
        self.key.rsplit('/').next().unwrap_or_default().starts_with(UNPACK_PREFIX)
    }
}

/// Beginning of containerd's keys for layers that it unpacks.
const UNPACK_PREFIX: &str = "extract-";
