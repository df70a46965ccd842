//! Whether a pack, or its missing objects one by one: whatever is expected to be there sooner.

use std::time::Duration;

/// What an object costs server, proxy and node for being asked for at all, in seconds. Measured with squid on a small machine:
/// some 4,000 requests a second and core. Counting it keeps a site's proxy from many small requests.
const REQUEST: f64 = 0.000_25;
/// Until something was measured: a server in another country.
const ROUND_TRIP: Duration = Duration::from_millis(20);
/// Until something was measured: 200 Mbit/s.
const BYTES_PER_SECOND: f64 = 25e6;

/// The line to the servers, as far as it is known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line {
    /// Until the first byte of an answer.
    pub(super) round_trip: Option<Duration>,
    /// What it carries.
    pub(super) bytes_per_second: Option<f64>,
    /// How many answers come side by side.
    pub(super) abreast: usize,
}

/// A pack, and what is missing of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Offer {
    /// Missing objects.
    pub(super) objects: usize,
    /// Their bytes on the server.
    pub(super) bytes: u64,
    /// Parts of the pack that hold them.
    pub(super) parts: usize,
    /// Bytes of these parts.
    pub(super) part_bytes: u64,
}

impl Line {
    /// Whether the parts of the pack are there before the objects would be.
    pub(super) fn prefers_pack(&self, offer: &Offer) -> bool {
        offer.objects > 0 && self.time(offer.parts, offer.part_bytes) <= self.time(offer.objects, offer.bytes)
    }

    fn time(&self, requests: usize, bytes: u64) -> f64 {
        let rounds = requests.div_ceil(self.abreast.max(1)) as f64;
        rounds * self.round_trip.unwrap_or(ROUND_TRIP).as_secs_f64()
            + requests as f64 * REQUEST
            + bytes as f64 / self.bytes_per_second.unwrap_or(BYTES_PER_SECOND).max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn line(ms: u64, bytes_per_second: f64) -> Line {
        let (round_trip, bytes_per_second) = (Some(Duration::from_millis(ms)), Some(bytes_per_second));
        Line { round_trip, bytes_per_second, abreast: 16 }
    }

    #[test]
    fn a_pack_is_taken_unless_too_little_of_it_is_missing() {
        let unknown = Line { round_trip: None, bytes_per_second: None, abreast: 16 };
        let cases = [
            (unknown, 600, 20 * MIB, 22 * MIB, true),
            (unknown, 1, 10_000, 22 * MIB, false),
            // Half of it: 19 rounds of 100 ms are longer than 11 MiB at 200 Mbit/s, at 5 ms they are not.
            (line(100, 25e6), 300, 11 * MIB, 22 * MIB, true),
            (line(5, 25e6), 300, 11 * MIB, 22 * MIB, false),
            // In a computing centre bytes cost less than requests.
            (line(0, 1e9), 300, 11 * MIB, 22 * MIB, true),
            (line(0, 1e9), 3, 100_000, 22 * MIB, false),
            (line(20, 25e6), 0, 0, 22 * MIB, false),
        ];
        for (line, objects, bytes, part_bytes, expected) in cases {
            let offer = Offer { objects, bytes, parts: 1, part_bytes };
            assert_eq!(line.prefers_pack(&offer), expected, "{line:?} {offer:?}");
        }
    }
}
