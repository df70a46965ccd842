//! Numbers of events by reason, of which newer programs may know more than this one.

use std::collections::BTreeMap;
use std::fmt::Display;

use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};

/// A reason, with the number that stands for it in a file. Every number is some reason.
pub trait Code: Copy + Ord + Display {
    /// Its number.
    fn code(self) -> u16;
    /// The reason that has this number.
    fn from_code(code: u16) -> Self;
}

/// How many events there were, by reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts<R>(BTreeMap<R, u64>);

impl<R> Default for Counts<R> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<R: Code> Counts<R> {
    /// Counts `events` more. None at all leaves no entry.
    pub fn add(&mut self, reason: R, events: u64) {
        if events > 0 {
            let count = self.0.entry(reason).or_default();
            *count = count.saturating_add(events);
        }
    }

    /// The same with `events` more.
    pub fn with(mut self, reason: R, events: u64) -> Self {
        self.add(reason, events);
        self
    }

    /// All events.
    pub fn total(&self) -> u64 {
        self.0.values().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The reasons with their counts; none has the count 0.
    pub(super) fn iter(&self) -> impl Iterator<Item = (R, u64)> + '_ {
        self.0.iter().map(|(reason, count)| (*reason, *count))
    }
}

impl<R: Code> bincode::Encode for Counts<R> {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        (self.0.len() as u64).encode(encoder)?;
        self.iter().try_for_each(|(reason, count)| (reason.code(), count).encode(encoder))
    }
}

impl<R: Code, C> bincode::Decode<C> for Counts<R> {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        // Nothing is allocated for a claimed number; the bytes end first.
        let mut counts = Self::default();
        for _ in 0..u64::decode(decoder)? {
            let (code, count) = <(u16, u64)>::decode(decoder)?;
            counts.add(R::from_code(code), count);
        }
        Ok(counts)
    }
}

impl<R: Code> serde::Serialize for Counts<R> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|(reason, count)| (reason.to_string().replace(' ', "_"), count)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Cause, LeftOutReason, Losses};
    use super::*;

    fn numbers_are_kept<R: Code>() {
        for code in 0..100 {
            assert_eq!(R::from_code(code).code(), code);
        }
    }

    #[test]
    fn reasons_are_counted_apart_and_survive_a_round_trip() {
        numbers_are_kept::<Cause>();
        numbers_are_kept::<LeftOutReason>();
        let losses =
            Losses::default().with(Cause::NoRoom, 2).with(Cause::Other(9), u64::MAX).with(Cause::Unresolved, 0);
        assert_eq!(losses.total(), u64::MAX);
        assert_eq!(losses.by_cause().count(), 2);
        assert_eq!(serde_json::to_string(&losses).unwrap(), format!(r#"{{"no_room":2,"cause_9":{}}}"#, u64::MAX));
    }
}
