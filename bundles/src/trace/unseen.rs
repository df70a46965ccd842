//! What a recorder cannot see at all.

/// What a recorder cannot see, as a set. Some of it makes a trace incomplete, see [`Unseen::uses`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Unseen(u64);

/// One bit: its place, what a person reads, and whether uses of files may be missing for it.
const BITS: [(Unseen, &str, bool); 15] = [
    (Unseen::START, "the container's start", true),
    (Unseen::LOSSES, "whether events were lost", true),
    (Unseen::KERNEL_OPENS, "interpreters of scripts and of ELF files", true),
    (Unseen::CONTAINER, "which container a use belongs to", false),
    (Unseen::TIMES, "times (only the order is known)", false),
    (Unseen::SIZES, "sizes", false),
    (Unseen::HOW, "how a file was used", false),
    (Unseen::FLAGS, "flags of opens", false),
    (Unseen::LINKS, "where symbolic links lead", false),
    (Unseen::RANGES, "which parts of a file were read", false),
    (Unseen::WARM_READS, "reads of cached pages (ranges are of what was not cached)", false),
    (Unseen::AHEAD, "read-ahead apart from demand", false),
    (Unseen::SET_UP, "the OCI runtime's set-up", false),
    (Unseen::UNOPENED, "uses without an open (descriptors handed in)", true),
    (Unseen::IO_URING, "opens through io_uring", true),
];

impl Unseen {
    /// The recorder came after the container's start.
    pub const START: Self = Self(1);
    /// The recorder does not count what it loses.
    pub const LOSSES: Self = Self(1 << 1);
    /// Files that the kernel opens by itself: interpreters of scripts and of ELF files.
    pub const KERNEL_OPENS: Self = Self(1 << 2);
    /// Uses by other containers may be among these.
    pub const CONTAINER: Self = Self(1 << 3);
    /// Files have an order, but the times are made up.
    pub const TIMES: Self = Self(1 << 4);
    /// All sizes are 0.
    pub const SIZES: Self = Self(1 << 5);
    /// All uses are called opens.
    pub const HOW: Self = Self(1 << 6);
    /// All flags are 0.
    pub const FLAGS: Self = Self(1 << 7);
    /// Paths are as programs named them.
    pub const LINKS: Self = Self(1 << 8);
    /// Which parts of a file were read.
    pub const RANGES: Self = Self(1 << 9);
    /// Reads of what was cached already: ranges are of what had to be fetched.
    pub const WARM_READS: Self = Self(1 << 10);
    /// What the kernel read ahead is among what was asked for.
    pub const AHEAD: Self = Self(1 << 11);
    /// What the OCI runtime does before the container's first exec.
    pub const SET_UP: Self = Self(1 << 12);
    /// Files that are used through descriptors that were handed in, without an open.
    pub const UNOPENED: Self = Self(1 << 13);
    /// Files that are opened through io_uring.
    pub const IO_URING: Self = Self(1 << 14);

    /// This and `other`.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` is in this.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// What is not seen, in words.
    pub fn names(self) -> impl Iterator<Item = String> {
        (0..u64::BITS).map(|bit| Self(1 << bit)).filter(move |bit| self.has(*bit)).map(|bit| {
            let known = BITS.iter().find(|(known, ..)| *known == bit);
            known.map_or_else(|| format!("something (bit {})", bit.0.trailing_zeros()), |(_, name, _)| (*name).into())
        })
    }

    /// The part for which uses may be missing. What is not known here counts as such.
    pub fn uses(self) -> Self {
        let harmless = BITS.iter().filter(|(_, _, uses)| !uses).fold(Self(0), |all, (bit, ..)| all.and(*bit));
        Self(self.0 & !harmless.0)
    }
}

impl serde::Serialize for Unseen {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.names())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_seen_has_names_and_unknown_bits_count_against_the_trace() {
        let unseen = Unseen::TIMES.and(Unseen::START).and(Unseen(1 << 40));
        let names: Vec<_> = unseen.names().collect();
        assert_eq!(names, ["the container's start", "times (only the order is known)", "something (bit 40)"]);
        assert_eq!(unseen.uses(), Unseen::START.and(Unseen(1 << 40)));
        assert_eq!(BITS.iter().fold(Unseen(0), |all, (bit, ..)| all.and(*bit)), Unseen((1 << BITS.len()) - 1));
    }
}
