//! What a recorder knows that it missed: events by cause, and what it cannot see at all.

use std::collections::BTreeMap;
use std::fmt;

use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};

/// Why an event is not in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// A buffer or a table of the recorder had no room.
    NoRoom,
    /// The path could not be told: too deep, or not readable.
    Unresolved,
    /// A line of an imported record was cut or not understood.
    Malformed,
    /// One that a newer recorder counts.
    Other(u16),
}

impl Cause {
    fn code(self) -> u16 {
        match self {
            Self::NoRoom => 1,
            Self::Unresolved => 2,
            Self::Malformed => 3,
            Self::Other(code) => code,
        }
    }

    fn from_code(code: u16) -> Self {
        match code {
            1 => Self::NoRoom,
            2 => Self::Unresolved,
            3 => Self::Malformed,
            code => Self::Other(code),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRoom => f.write_str("no room"),
            Self::Unresolved => f.write_str("path not told"),
            Self::Malformed => f.write_str("malformed"),
            Self::Other(code) => write!(f, "cause {code}"),
        }
    }
}

/// How many events were lost, by cause.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Losses(BTreeMap<Cause, u64>);

impl Losses {
    /// Counts `events` more. None at all leaves no entry.
    pub fn add(&mut self, cause: Cause, events: u64) {
        if events > 0 {
            let count = self.0.entry(cause).or_default();
            *count = count.saturating_add(events);
        }
    }

    /// The same with `events` more.
    pub fn with(mut self, cause: Cause, events: u64) -> Self {
        self.add(cause, events);
        self
    }

    /// All lost events.
    pub fn total(&self) -> u64 {
        self.0.values().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The causes with their counts; none has the count 0.
    pub fn by_cause(&self) -> impl Iterator<Item = (Cause, u64)> + '_ {
        self.0.iter().map(|(cause, count)| (*cause, *count))
    }
}

impl bincode::Encode for Losses {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        (self.0.len() as u64).encode(encoder)?;
        self.0.iter().try_for_each(|(cause, count)| (cause.code(), *count).encode(encoder))
    }
}

impl<C> bincode::Decode<C> for Losses {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        // Nothing is allocated for a claimed number; the bytes end first.
        let mut losses = Self::default();
        for _ in 0..u64::decode(decoder)? {
            let (code, count) = <(u16, u64)>::decode(decoder)?;
            losses.add(Cause::from_code(code), count);
        }
        Ok(losses)
    }
}

bincode::impl_borrow_decode!(Losses);

impl serde::Serialize for Losses {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.by_cause().map(|(cause, count)| (cause.to_string().replace(' ', "_"), count)))
    }
}

/// What a recorder cannot see, as a set. Some of it makes a trace incomplete, see [`Unseen::uses`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Unseen(u64);

/// One bit: its place, what a person reads, and whether uses of files may be missing for it.
const BITS: [(Unseen, &str, bool); 9] = [
    (Unseen::START, "the container's start", true),
    (Unseen::LOSSES, "whether events were lost", true),
    (Unseen::KERNEL_OPENS, "interpreters of scripts and of ELF files", true),
    (Unseen::CONTAINER, "which container a use belongs to", false),
    (Unseen::TIMES, "times (only the order is known)", false),
    (Unseen::SIZES, "sizes", false),
    (Unseen::HOW, "how a file was used", false),
    (Unseen::FLAGS, "flags of opens", false),
    (Unseen::LINKS, "where symbolic links lead", false),
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
    fn causes_are_counted_apart_and_survive_a_round_trip() {
        for code in 0..100 {
            assert_eq!(Cause::from_code(code).code(), code);
        }
        let losses =
            Losses::default().with(Cause::NoRoom, 2).with(Cause::Other(9), u64::MAX).with(Cause::Unresolved, 0);
        assert_eq!(losses.total(), u64::MAX);
        assert_eq!(losses.by_cause().count(), 2);
        assert_eq!(serde_json::to_string(&losses).unwrap(), format!(r#"{{"no_room":2,"cause_9":{}}}"#, u64::MAX));
    }

    #[test]
    fn what_is_not_seen_has_names_and_unknown_bits_count_against_the_trace() {
        let unseen = Unseen::TIMES.and(Unseen::START).and(Unseen(1 << 40));
        let names: Vec<_> = unseen.names().collect();
        assert_eq!(names, ["the container's start", "times (only the order is known)", "something (bit 40)"]);
        assert_eq!(unseen.uses(), Unseen::START.and(Unseen(1 << 40)));
        assert_eq!(BITS.iter().fold(Unseen(0), |all, (bit, ..)| all.and(*bit)), Unseen((1 << BITS.len()) - 1));
    }
}
