//! What a benchmark measures under.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use testbed::web::LineSpec;

/// What is between a node and the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Condition {
    pub(crate) round_trip_ms: u64,
    pub(crate) bytes_per_second: Option<u64>,
    /// A squid that has nothing yet, near the node.
    pub(crate) squid: bool,
    /// Connections open as slowly as TCP's do.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) slow_start: bool,
}

impl Condition {
    pub(crate) fn of(round_trip_ms: u64) -> Self {
        Self { round_trip_ms, bytes_per_second: None, squid: false, slow_start: false }
    }

    pub(crate) fn line(&self) -> LineSpec {
        LineSpec {
            total_bytes_per_second: self.bytes_per_second,
            slow_start: self.slow_start,
            ..LineSpec::with_round_trip(self.round_trip())
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
