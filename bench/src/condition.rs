//! The network conditions of a measurement.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use testbed::web::LinkSpec;

/// The network between a node and the repository's server. Part of the JSON records: a renamed field makes older records
/// unreadable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Condition {
    pub(crate) round_trip_ms: u64,
    pub(crate) bytes_per_second: Option<u64>,
    /// A squid with an empty cache stands near the node.
    pub(crate) squid: bool,
    /// Connections go through TCP slow start.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) slow_start: bool,
}

impl Condition {
    /// A round trip without any other limit.
    pub(crate) fn latency(round_trip_ms: u64) -> Self {
        Self { round_trip_ms, bytes_per_second: None, squid: false, slow_start: false }
    }

    pub(crate) fn link(&self) -> LinkSpec {
        LinkSpec {
            total_bytes_per_second: self.bytes_per_second,
            slow_start: self.slow_start,
            ..LinkSpec::with_round_trip(self.round_trip())
        }
    }

    pub(crate) fn round_trip(&self) -> Duration {
        Duration::from_millis(self.round_trip_ms)
    }

    pub(crate) fn name(&self) -> String {
        let rate = self.bytes_per_second.map_or(String::new(), |rate| format!(", {} Mbit/s", rate * 8 / 1_000_000));
        let squid = if self.squid { ", squid" } else { "" };
        let slow_start = if self.slow_start { ", slow start" } else { "" };
        format!("{} ms{rate}{squid}{slow_start}", self.round_trip_ms)
    }
}
