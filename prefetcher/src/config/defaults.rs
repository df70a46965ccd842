//! Default values of the configuration.

use std::path::PathBuf;
use std::time::Duration;

pub(super) fn socket() -> PathBuf {
    node::paths::PREFETCHD_SOCKET.into()
}

pub(super) fn socket_mode() -> u32 {
    0o660
}

pub(super) fn store() -> PathBuf {
    node::paths::PREFETCHD_STORE.into()
}

pub(super) fn store_max_bytes() -> u64 {
    bundles::store::DEFAULT_LIMIT
}

pub(super) fn max_connections() -> usize {
    64
}

/// More than a node reaches at a round trip of 30 ms, so that it only bounds what a mistake or a hostile bundle can do.
pub(super) fn max_requests_per_second() -> u64 {
    2000
}

pub(super) fn page_cache_threads() -> usize {
    4
}

pub(super) fn client_config() -> PathBuf {
    node::cvmfs_client::parameters::STOCK_ROOT.into()
}

pub(super) fn cache_share() -> f64 {
    0.5
}

pub(super) fn cache_share_per_hour() -> f64 {
    1.0
}

pub(super) fn timeout() -> Duration {
    Duration::from_secs(10)
}

pub(super) fn retries() -> u32 {
    3
}

pub(super) fn nice() -> u8 {
    10
}

pub(super) fn revision_check_interval() -> Duration {
    Duration::from_secs(240)
}

pub(super) fn settings_check_interval() -> Duration {
    Duration::from_secs(60)
}

pub(super) fn absent_ttl() -> Duration {
    Duration::from_secs(5)
}

pub(super) fn lookup_timeout() -> Duration {
    Duration::from_secs(5)
}
