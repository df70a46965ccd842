//! Estimates whether a pack or its missing objects one by one are downloaded faster.

use std::time::Duration;

/// Seconds that a request costs server, proxy and node, whatever its size. Measured with squid on a small machine: some 4,000 requests
/// per second and core. Counting it protects a site's proxy from many small requests.
const REQUEST_SECONDS: f64 = 0.000_25;
/// Round trip until one was measured: to a server in another country.
const ROUND_TRIP: Duration = Duration::from_millis(20);
/// Rate until one was measured: 200 Mbit/s.
const BYTES_PER_SECOND: f64 = 25e6;

/// The link to the servers, as far as it was measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Link {
    /// Time until the first byte of a response.
    pub(super) round_trip: Option<Duration>,
    /// Rate of downloads.
    pub(super) bytes_per_second: Option<f64>,
    /// Number of downloads at a time.
    pub(super) connections: usize,
}

/// The missing objects of a pack, and its parts that hold them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Offer {
    /// Number of missing objects.
    pub(super) objects: usize,
    /// Their stored bytes.
    pub(super) object_bytes: u64,
    /// Number of parts of the pack that hold them.
    pub(super) parts: usize,
    /// Bytes of these parts.
    pub(super) part_bytes: u64,
}

impl Link {
    /// Whether the parts of the pack are downloaded at least as fast as the objects one by one.
    pub(super) fn prefers_pack(&self, offer: &Offer) -> bool {
        offer.objects > 0 && self.time(offer.parts, offer.part_bytes) <= self.time(offer.objects, offer.object_bytes)
    }

    fn time(&self, requests: usize, bytes: u64) -> f64 {
        let rounds = requests.div_ceil(self.connections.max(1)) as f64;
        rounds * self.round_trip.unwrap_or(ROUND_TRIP).as_secs_f64()
            + requests as f64 * REQUEST_SECONDS
            + bytes as f64 / self.bytes_per_second.unwrap_or(BYTES_PER_SECOND).max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn link(ms: u64, bytes_per_second: f64) -> Link {
        let round_trip = Some(Duration::from_millis(ms));
        Link { round_trip, bytes_per_second: Some(bytes_per_second), connections: 16 }
    }

    #[test]
    fn a_pack_is_preferred_unless_few_of_its_objects_are_missing() {
        let unknown = Link { round_trip: None, bytes_per_second: None, connections: 16 };
        let cases = [
            (unknown, 600, 20 * MIB, 22 * MIB, true),
            (unknown, 1, 10_000, 22 * MIB, false),
            // Half of the objects: 19 round trips of 100 ms are longer than 11 MiB at 200 Mbit/s, at 5 ms they are not.
            (link(100, 25e6), 300, 11 * MIB, 22 * MIB, true),
            (link(5, 25e6), 300, 11 * MIB, 22 * MIB, false),
            // Within a computing centre, bytes cost less than requests.
            (link(0, 1e9), 300, 11 * MIB, 22 * MIB, true),
            (link(0, 1e9), 3, 100_000, 22 * MIB, false),
            (link(20, 25e6), 0, 0, 22 * MIB, false),
        ];
        for (link, objects, object_bytes, part_bytes, expected) in cases {
            let offer = Offer { objects, object_bytes, parts: 1, part_bytes };
            assert_eq!(link.prefers_pack(&offer), expected, "{link:?} {offer:?}");
        }
    }
}
