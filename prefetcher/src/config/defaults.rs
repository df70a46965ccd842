//! What holds where the configuration says nothing.

use std::path::PathBuf;

pub(super) fn socket() -> PathBuf {
    node::paths::PREFETCHD_SOCKET.into()
}

pub(super) fn socket_mode() -> u32 {
    0o660
}

pub(super) fn store() -> PathBuf {
    node::paths::PREFETCHD_STORE.into()
}

pub(super) fn store_bytes() -> u64 {
    bundles::store::DEFAULT_LIMIT
}

pub(super) fn connections() -> usize {
    64
}

pub(super) fn mount_readers() -> usize {
    4
}

pub(super) fn client_config() -> PathBuf {
    node::cvmfs_client::parameters::STOCK_ROOT.into()
}

pub(super) fn cache_share() -> f64 {
    0.5
}

pub(super) fn timeout_s() -> u64 {
    10
}

pub(super) fn retries() -> u32 {
    3
}

pub(super) fn nice() -> u8 {
    10
}

pub(super) fn revision_check_s() -> u64 {
    240
}

pub(super) fn remember_absent_s() -> u64 {
    5
}

pub(super) fn lookup_timeout_s() -> u64 {
    5
}
