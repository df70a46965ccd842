//! Default locations of files and sockets. Units in `deploy/systemd` and the documentation use the same.

/// Configuration file of the prefetch daemon.
pub const PREFETCHD_CONFIG: &str = "/etc/cvmfs-prefetch/prefetchd.toml";
/// Unix socket of the prefetch daemon.
pub const PREFETCHD_SOCKET: &str = "/run/cvmfs-prefetchd/prefetchd.sock";
/// Bundle store of the prefetch daemon.
pub const PREFETCHD_STORE: &str = "/var/lib/cvmfs-prefetchd/store";
