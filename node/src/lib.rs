//! What the daemons of a worker node share. `cvmfs-prefetchd` and `cvmfs-prefetch-snapshotter` both use it; neither links the other.
//!
//! - [`config`] loads a TOML file strictly; [`paths`] holds the default locations.
//! - [`cvmfs_client`] reads how the node's CVMFS client is configured.
//! - [`mount`] guards calls to a mount that may hang.
//! - [`unix_socket`] binds a daemon's socket; [`metrics_http`] serves its metrics; [`logging`] starts its log.

pub mod config;
pub mod cvmfs_client;
pub mod logging;
pub mod metrics_http;
pub mod mount;
pub mod paths;
pub mod unix_socket;
