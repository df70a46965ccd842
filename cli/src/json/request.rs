//! Results of `prefetch`, `status`, `cancel` and `priority`.

use api::proto::{self, RequestStatus};
use serde::Serialize;

/// A request that was sent: `prefetch --no-wait`.
#[derive(Debug, Serialize)]
pub(crate) struct RequestId {
    pub(crate) request_id: u64,
}

/// The daemon's requests: `status`.
#[derive(Debug, Default, Serialize)]
pub(crate) struct DaemonStatus {
    /// The requests that the daemon remembers, newest first.
    pub(crate) requests: Vec<Request>,
    pub(crate) stored_bundles: usize,
    /// Damaged bundles that the daemon removed from its store since it started.
    pub(crate) damaged_bundles: u64,
}

/// A request: `prefetch`, `status REQUEST`, `cancel` and `priority`.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Request {
    pub(crate) request_id: u64,
    pub(crate) image: RequestImage,
    /// running, done, no_bundle, failed, cancelled or deadline.
    pub(crate) state: String,
    /// Whether the daemon has just started and does not know the settings of its repositories yet.
    pub(crate) waiting_for_settings: bool,
    /// The first error; empty if there was none.
    pub(crate) error: String,
    /// store, a path in a mount, registry and a reference, or request; empty before the lookup has ended.
    pub(crate) bundle_source: String,
    pub(crate) lookup_us: u64,
    /// low, normal or high.
    pub(crate) priority: String,
    /// From the start of the request; 0: none.
    pub(crate) deadline_ms: u64,
    pub(crate) correlation_id: String,
    /// Calls that joined the request.
    pub(crate) joined_calls: u64,
    /// Rate limit of the request; 0: none.
    pub(crate) bytes_per_second: u64,
    pub(crate) tally: Tally,
}

/// The names under which the daemon knows the image; each may be empty.
#[derive(Debug, Default, Serialize)]
pub(crate) struct RequestImage {
    pub(crate) chain_id: String,
    pub(crate) manifest_digest: String,
    pub(crate) reference: String,
    pub(crate) profile: String,
}

/// Counts, bytes and times of a request.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Tally {
    pub(crate) total_objects: u64,
    pub(crate) cached_objects: u64,
    pub(crate) fetched_objects: u64,
    pub(crate) joined_objects: u64,
    pub(crate) failed_objects: u64,
    pub(crate) failed_transfer: u64,
    pub(crate) failed_verification: u64,
    pub(crate) failed_write: u64,
    pub(crate) failed_shutdown: u64,
    pub(crate) failed_cancelled: u64,
    pub(crate) failed_abandoned: u64,
    pub(crate) skipped_objects: u64,
    pub(crate) skipped_cache_full_objects: u64,
    pub(crate) total_stored_bytes: u64,
    pub(crate) total_raw_bytes: u64,
    pub(crate) cached_raw_bytes: u64,
    pub(crate) fetched_stored_bytes: u64,
    pub(crate) fetched_raw_bytes: u64,
    pub(crate) transferred_bytes: u64,
    pub(crate) packs: u64,
    pub(crate) elapsed_us: u64,
    pub(crate) time_to_first_byte_us: u64,
    pub(crate) time_to_critical_us: u64,
    pub(crate) critical_objects: u64,
    pub(crate) critical_pending_objects: u64,
    pub(crate) round_trip_us: u64,
    pub(crate) recommended_delay_us: Option<u64>,
}

impl From<&RequestStatus> for Request {
    fn from(status: &RequestStatus) -> Self {
        let image = status.image.clone().unwrap_or_default();
        Self {
            request_id: status.request_id,
            image: RequestImage {
                chain_id: image.chain_id,
                manifest_digest: image.manifest_digest,
                reference: image.reference,
                profile: image.profile,
            },
            state: status.state().name(),
            waiting_for_settings: status.waiting_for_settings,
            error: status.error.clone(),
            bundle_source: status.bundle_source.clone(),
            lookup_us: status.lookup_us,
            priority: status.priority().name(),
            deadline_ms: status.deadline_ms,
            correlation_id: status.correlation_id.clone(),
            joined_calls: status.joined_calls,
            bytes_per_second: status.bytes_per_second,
            tally: (&status.tally.unwrap_or_default()).into(),
        }
    }
}

impl From<&proto::Tally> for Tally {
    fn from(tally: &proto::Tally) -> Self {
        Self {
            total_objects: tally.total_objects,
            cached_objects: tally.cached_objects,
            fetched_objects: tally.fetched_objects,
            joined_objects: tally.joined_objects,
            failed_objects: tally.failed_objects,
            failed_transfer: tally.failed_transfer,
            failed_verification: tally.failed_verification,
            failed_write: tally.failed_write,
            failed_shutdown: tally.failed_shutdown,
            failed_cancelled: tally.failed_cancelled,
            failed_abandoned: tally.failed_abandoned,
            skipped_objects: tally.skipped_objects,
            skipped_cache_full_objects: tally.skipped_cache_full_objects,
            total_stored_bytes: tally.total_stored_bytes,
            total_raw_bytes: tally.total_raw_bytes,
            cached_raw_bytes: tally.cached_raw_bytes,
            fetched_stored_bytes: tally.fetched_stored_bytes,
            fetched_raw_bytes: tally.fetched_raw_bytes,
            transferred_bytes: tally.transferred_bytes,
            packs: tally.packs,
            elapsed_us: tally.elapsed_us,
            time_to_first_byte_us: tally.time_to_first_byte_us,
            time_to_critical_us: tally.time_to_critical_us,
            critical_objects: tally.critical_objects,
            critical_pending_objects: tally.critical_pending_objects,
            round_trip_us: tally.round_trip_us,
            recommended_delay_us: tally.recommended_delay_us,
        }
    }
}
