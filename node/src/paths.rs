//! Default locations of files and sockets. Units in `deploy/systemd`, examples in `deploy/config` and the documentation use the same.

/// Configuration file of the prefetch daemon.
pub const PREFETCHD_CONFIG: &str = "/etc/cvmfs-prefetch/prefetchd.toml";
/// Unix socket of the prefetch daemon.
pub const PREFETCHD_SOCKET: &str = "/run/cvmfs-prefetch/prefetchd/prefetchd.sock";
/// Bundle store of the prefetch daemon.
pub const PREFETCHD_STORE: &str = "/var/lib/cvmfs-prefetch/prefetchd/store";
/// Configuration file of the snapshotter.
pub const SNAPSHOTTER_CONFIG: &str = "/etc/cvmfs-prefetch/snapshotter.toml";
/// Unix socket of the snapshotter.
pub const SNAPSHOTTER_SOCKET: &str = "/run/cvmfs-prefetch/snapshotter/snapshotter.sock";
/// Metadata, unpacked layers and containers' writes of the snapshotter.
pub const SNAPSHOTTER_ROOT: &str = "/var/lib/cvmfs-prefetch/snapshotter";
/// Traces that `cvmfs-prefetch watch` writes.
pub const TRACES: &str = "/var/lib/cvmfs-prefetch/traces";
