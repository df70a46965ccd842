//! Blind spots: what a recorder backend cannot see.

use crate::codec::{Decode, Encode};

/// The blind spots of a recorder, as a set. Some make a trace incomplete: [`BlindSpots::missing_uses`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
#[bincode(crate = "crate::codec")]
pub struct BlindSpots(u64);

/// Each bit, its description for people, and whether uses of files may be missing because of it.
const BITS: [(BlindSpots, &str, bool); 15] = [
    (BlindSpots::START, "the container's start", true),
    (BlindSpots::LOSSES, "whether events were lost", true),
    (BlindSpots::KERNEL_OPENS, "interpreters of scripts and of ELF files", true),
    (BlindSpots::CONTAINER, "which container a use belongs to", false),
    (BlindSpots::TIMES, "times (only the order is known)", false),
    (BlindSpots::SIZES, "sizes", false),
    (BlindSpots::HOW, "kinds of use", false),
    (BlindSpots::FLAGS, "open flags", false),
    (BlindSpots::LINKS, "targets of symbolic links", false),
    (BlindSpots::RANGES, "ranges that were read", false),
    (BlindSpots::WARM_READS, "reads of cached pages (ranges are those that were not cached)", false),
    (BlindSpots::AHEAD, "difference between reads and read-ahead", false),
    (BlindSpots::SET_UP, "the OCI runtime's set-up", false),
    (BlindSpots::UNOPENED, "uses without an open (inherited descriptors)", true),
    (BlindSpots::IO_URING, "opens through io_uring", true),
];

impl BlindSpots {
    /// The container's start: the recorder was attached later.
    pub const START: Self = Self(1);
    /// Losses: the recorder does not count lost events.
    pub const LOSSES: Self = Self(1 << 1);
    /// Files that the kernel opens by itself: interpreters of scripts and of ELF files.
    pub const KERNEL_OPENS: Self = Self(1 << 2);
    /// Containers: uses by other containers may be included.
    pub const CONTAINER: Self = Self(1 << 3);
    /// Times: files have an order, but made-up times.
    pub const TIMES: Self = Self(1 << 4);
    /// Sizes: all are 0.
    pub const SIZES: Self = Self(1 << 5);
    /// Kinds of use: all are opens.
    pub const HOW: Self = Self(1 << 6);
    /// Open flags: all are 0.
    pub const FLAGS: Self = Self(1 << 7);
    /// Symbolic links: paths are as programs named them.
    pub const LINKS: Self = Self(1 << 8);
    /// Ranges that were read.
    pub const RANGES: Self = Self(1 << 9);
    /// Reads of cached pages: ranges are those that had to be fetched.
    pub const WARM_READS: Self = Self(1 << 10);
    /// Read-ahead: it is included in what programs requested.
    pub const AHEAD: Self = Self(1 << 11);
    /// What the OCI runtime does before the container's first exec.
    pub const SET_UP: Self = Self(1 << 12);
    /// Files used through inherited descriptors, without an open.
    pub const UNOPENED: Self = Self(1 << 13);
    /// Files opened through io_uring.
    pub const IO_URING: Self = Self(1 << 14);

    /// The union of both sets.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` is in this set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Descriptions of the blind spots.
    pub fn names(self) -> impl Iterator<Item = String> {
        (0..u64::BITS).map(|bit| Self(1 << bit)).filter(move |bit| self.has(*bit)).map(|bit| {
            let known = BITS.iter().find(|(known, ..)| *known == bit);
            known.map_or_else(|| format!("unknown (bit {})", bit.0.trailing_zeros()), |(_, name, _)| (*name).into())
        })
    }

    /// The blind spots for which uses of files may be missing, including all unknown ones.
    pub fn missing_uses(self) -> Self {
        let harmless = BITS.iter().filter(|(_, _, uses)| !uses).fold(Self(0), |all, (bit, ..)| all.and(*bit));
        Self(self.0 & !harmless.0)
    }
}

impl serde::Serialize for BlindSpots {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.names())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blind_spots_have_names_and_unknown_ones_count() {
        let blind_spots = BlindSpots::TIMES.and(BlindSpots::START).and(BlindSpots(1 << 40));
        let names: Vec<_> = blind_spots.names().collect();
        assert_eq!(names, ["the container's start", "times (only the order is known)", "unknown (bit 40)"]);
        assert_eq!(blind_spots.missing_uses(), BlindSpots::START.and(BlindSpots(1 << 40)));
        assert_eq!(BITS.iter().fold(BlindSpots(0), |all, (bit, ..)| all.and(*bit)), BlindSpots((1 << BITS.len()) - 1));
    }
}
