//! Why a call of containerd failed, and the gRPC code that containerd gets.

use containerd_snapshots::tonic::{Code, Status};

use crate::idmap::InvalidMapping;
use crate::layers::mount_check::LayerUnavailable;
use crate::snapshots::directories::DiskError;
use crate::snapshots::filter::InvalidFilter;
use crate::snapshots::labels::LabelTooLarge;
use crate::snapshots::state::StateError;
use crate::snapshots::store::StoreError;

/// The error of a call. containerd acts on the codes, so they are part of the contract with it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The snapshots do not allow the call.
    #[error(transparent)]
    State(#[from] StateError),
    /// Mounts were requested for a committed snapshot.
    #[error("snapshot {0:?} is committed; only active snapshots and views can be mounted")]
    NotMountable(String),
    /// A label is larger than containerd allows.
    #[error(transparent)]
    Label(#[from] LabelTooLarge),
    /// A label of a container in a user namespace is wrong.
    #[error(transparent)]
    Mapping(#[from] InvalidMapping),
    /// A filter of List is wrong.
    #[error(transparent)]
    Filter(#[from] InvalidFilter),
    /// The container is in a user namespace, and its parent has the owners of the image.
    #[error(
        "snapshot {0:?} is for a user namespace, and this snapshotter cannot shift the owners of files; containerd can: remove \
         the capability remap-ids from the snapshotter's entry in proxy_plugins (with ctr, omit --remap-labels)"
    )]
    CannotShiftOwners(String),
    /// A published layer cannot be mounted now, but may be again later.
    #[error(transparent)]
    Layer(#[from] LayerUnavailable),
    /// A file operation below the root failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The database failed.
    #[error("database of snapshots: {0}")]
    Store(#[from] StoreError),
    /// A blocking task panicked.
    #[error("internal error: {0}")]
    Task(#[from] tokio::task::JoinError),
}

impl Error {
    fn code(&self) -> Code {
        match self {
            Self::State(error) => state_code(error),
            Self::NotMountable(_) => Code::FailedPrecondition,
            Self::Label(_) | Self::Mapping(_) | Self::Filter(_) => Code::InvalidArgument,
            Self::CannotShiftOwners(_) => Code::Unimplemented,
            Self::Layer(_) => Code::Unavailable,
            Self::Disk(_) | Self::Store(_) | Self::Task(_) => Code::Internal,
        }
    }
}

/// As in containerd's own snapshotters: the code tells "the request can never work" from "the snapshot is not in the
/// right state".
fn state_code(error: &StateError) -> Code {
    match error {
        StateError::AlreadyExists(_) => Code::AlreadyExists,
        StateError::NotFound(_) => Code::NotFound,
        StateError::NotActive(_) | StateError::HasChildren(_) => Code::FailedPrecondition,
        StateError::EmptyKey
        | StateError::EmptyName
        | StateError::ParentNotCommitted(_)
        | StateError::FixedField { .. }
        | StateError::Label(_) => Code::InvalidArgument,
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Status::new(error.code(), error.to_string())
    }
}
