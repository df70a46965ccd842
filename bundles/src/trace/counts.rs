//! Counts of events by reason. Newer programs may know more reasons than this one.

use std::collections::BTreeMap;
use std::fmt::Display;

use crate::codec::{Decode, DecodeError, Decoder, Encode, EncodeError, Encoder};

/// A reason and the number that stands for it in a file. Every number is a reason, known or not.
pub trait Code: Copy + Ord + Display {
    /// The number that stands for this reason.
    fn code(self) -> u16;
    /// The reason that this number stands for.
    fn from_code(code: u16) -> Self;
}

/// Counts of events by reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts<R>(BTreeMap<R, u64>);

impl<R> Default for Counts<R> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<R: Code> Counts<R> {
    /// Adds `events`; 0 leaves no entry.
    pub fn add(&mut self, reason: R, events: u64) {
        if events > 0 {
            let count = self.0.entry(reason).or_default();
            *count = count.saturating_add(events);
        }
    }

    /// This with `events` more.
    pub fn with(mut self, reason: R, events: u64) -> Self {
        self.add(reason, events);
        self
    }

    /// Sum of all counts.
    pub fn total(&self) -> u64 {
        self.0.values().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The reasons and their counts, which are above 0.
    pub(super) fn iter(&self) -> impl Iterator<Item = (R, u64)> + '_ {
        self.0.iter().map(|(reason, count)| (*reason, *count))
    }
}

impl<R: Code> Encode for Counts<R> {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        (self.0.len() as u64).encode(encoder)?;
        self.iter().try_for_each(|(reason, count)| (reason.code(), count).encode(encoder))
    }
}

impl<R: Code, C> Decode<C> for Counts<R> {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        // A claimed number allocates nothing: the bytes end first.
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
    use super::super::{ExcludedReason, LossCause, Losses};
    use super::*;

    fn assert_codes_round_trip<R: Code>() {
        for code in 0..100 {
            assert_eq!(R::from_code(code).code(), code);
        }
    }

    #[test]
    fn counts_are_kept_by_reason() {
        assert_codes_round_trip::<LossCause>();
        assert_codes_round_trip::<ExcludedReason>();
        let losses = Losses::default()
            .with(LossCause::BufferFull, 2)
            .with(LossCause::Other(9), u64::MAX)
            .with(LossCause::Unresolved, 0);
        assert_eq!(losses.total(), u64::MAX);
        assert_eq!(losses.by_cause().count(), 2);
        assert_eq!(serde_json::to_string(&losses).unwrap(), format!(r#"{{"buffer_full":2,"cause_9":{}}}"#, u64::MAX));
    }
}
