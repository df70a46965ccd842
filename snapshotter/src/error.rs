//! What can go wrong in a call, and the code by which containerd knows it.

use std::path::PathBuf;

use containerd_snapshots::tonic::{Code, Status};

/// The error of a call. All but the last three are part of the contract with containerd, which acts on their codes.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The key or name is taken; or, in answer to Prepare of a layer: "there is no need to unpack it".
    #[error("snapshot {0:?}: already exists")]
    AlreadyExists(String),
    /// No snapshot has this key or name.
    #[error("snapshot {0:?} does not exist: not found")]
    NotFound(String),
    /// The snapshot is not of the kind that the call is for, or has children.
    #[error("{0}: failed precondition")]
    FailedPrecondition(String),
    /// The request makes no sense whatever the state is.
    #[error("{0}: invalid argument")]
    InvalidArgument(String),
    /// The request makes sense, but not to this snapshotter.
    #[error("{0}: not implemented")]
    Unimplemented(String),
    /// Something that the snapshot stands on is not there now, but may be again later.
    #[error("{0}: unavailable")]
    Unavailable(String),
    /// A file operation below the root failed.
    #[error("cannot {action} {path}: {source}")]
    Disk {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The metadata could not be read or written.
    #[error("metadata: {0}")]
    Store(#[from] crate::store::StoreError),
    /// A task of ours died.
    #[error("internal error: {0}")]
    Internal(String),
}

impl Error {
    /// For `map_err` on file operations.
    pub fn disk(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Disk { action, path, source }
    }

    fn code(&self) -> Code {
        match self {
            Self::AlreadyExists(_) => Code::AlreadyExists,
            Self::NotFound(_) => Code::NotFound,
            Self::FailedPrecondition(_) => Code::FailedPrecondition,
            Self::InvalidArgument(_) => Code::InvalidArgument,
            Self::Unimplemented(_) => Code::Unimplemented,
            Self::Unavailable(_) => Code::Unavailable,
            Self::Disk { .. } | Self::Store(_) | Self::Internal(_) => Code::Internal,
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Status::new(error.code(), error.to_string())
    }
}
