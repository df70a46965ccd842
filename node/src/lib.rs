//! What the daemons of a worker node share. `cvmfs-prefetchd` and `cvmfs-prefetch-snapshotter` both use it; neither links the other.
//!
//! - [`below`] opens what is below a mount and nothing else.
//! - [`config`] loads a TOML file strictly; [`paths`] holds the default locations.
//! - [`cvmfs_client`] reads how the node's CVMFS client is configured.
//! - [`mount`] guards calls to a mount that may hang; [`mount_table`] says what is mounted without touching it.
//! - [`runtime`] starts the runtime with few threads on any node; [`stop`] receives SIGTERM and SIGINT.
//! - [`unix_socket`] binds a daemon's socket; [`metrics_http`] serves its metrics; [`logging`] starts its log.

pub mod below;
pub mod config;
pub mod cvmfs_client;
pub mod logging;
pub mod metrics_http;
pub mod mount;
pub mod mount_table;
pub mod paths;
pub mod runtime;
pub mod stop;
pub mod unix_socket;
