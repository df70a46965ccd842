//! Ranges of files that were read.
//!
//! In a file, a list of ranges is its length, and for each range the distance from the end of the one before (for the first: from 0)
//! and its own length. So a list cannot be unsorted or overlap; a distance of 0 (except for the first) or a length of 0 is an
//! error.

use serde::Serialize;

use crate::codec::{Decode, DecodeError, Decoder, Encode, EncodeError, Encoder, impl_borrow_decode};

/// Most ranges of a record, so that little is decoded at a time. Recorders join neighbouring pages before
/// writing.
pub(super) const MAX: usize = 65_536;

/// A range of bytes of a file, not empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Range {
    /// Offset of the first byte.
    pub start: u64,
    /// Offset after the last byte.
    pub end: u64,
}

/// The ranges of a file that were read. Both lists are sorted, their ranges neither overlap nor touch, and no
/// byte is in both. [`Ranges::new`] ensures this; other lists cannot be written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Ranges {
    /// Requested by the program.
    pub read: Vec<Range>,
    /// Mapped, or read ahead by the kernel, and perhaps not used.
    pub ahead: Vec<Range>,
}

impl Ranges {
    /// Normalizes ranges: overlapping and touching ones are joined, requested bytes are removed from `ahead`,
    /// empty ranges are dropped.
    pub fn new(read: Vec<Range>, ahead: Vec<Range>) -> Self {
        let read = joined(read);
        let ahead = without(&joined(ahead), &read);
        Self { read, ahead }
    }

    /// Number of requested bytes.
    pub fn bytes_read(&self) -> u64 {
        bytes(&self.read)
    }

    /// Number of bytes that were only read ahead.
    pub fn bytes_ahead(&self) -> u64 {
        bytes(&self.ahead)
    }

    /// Whether nothing was read.
    pub fn is_empty(&self) -> bool {
        self.read.is_empty() && self.ahead.is_empty()
    }

    /// Adds the ranges of `other`.
    pub fn merge(&mut self, other: &Self) {
        *self = Self::new([&self.read[..], &other.read].concat(), [&self.ahead[..], &other.ahead].concat());
    }

    /// Number of ranges.
    pub(super) fn len(&self) -> usize {
        self.read.len() + self.ahead.len()
    }
}

fn bytes(ranges: &[Range]) -> u64 {
    ranges.iter().fold(0, |sum: u64, range| sum.saturating_add(range.end.saturating_sub(range.start)))
}

/// `ranges` sorted and joined, without empty ones.
fn joined(mut ranges: Vec<Range>) -> Vec<Range> {
    ranges.retain(|range| range.start < range.end);
    ranges.sort_unstable();
    ranges.dedup_by(|next, last| {
        let touch = next.start <= last.end;
        if touch {
            last.end = last.end.max(next.end);
        }
        touch
    });
    ranges
}

/// `ranges` without the bytes of `taken`; both are sorted and joined.
fn without(ranges: &[Range], taken: &[Range]) -> Vec<Range> {
    let mut left = Vec::with_capacity(ranges.len());
    let mut first = 0;
    for range in ranges {
        let mut start = range.start;
        while taken.get(first).is_some_and(|taken| taken.end <= start) {
            first += 1;
        }
        for taken in taken[first..].iter().take_while(|taken| taken.start < range.end) {
            left.push(Range { start, end: taken.start });
            start = taken.end;
        }
        left.push(Range { start, end: range.end });
    }
    left.retain(|range| range.start < range.end);
    left
}

/// Whether two sorted and joined lists have a byte in common.
fn overlap(ranges: &[Range], others: &[Range]) -> bool {
    let mut rest = others;
    ranges.iter().any(|range| {
        let behind = rest.iter().position(|other| other.end > range.start).unwrap_or(rest.len());
        rest = &rest[behind..];
        rest.first().is_some_and(|other| other.start < range.end)
    })
}

impl Encode for Ranges {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        if self.len() > MAX {
            return Err(EncodeError::OtherString(format!(
                "{} ranges in a record are too many: at most {MAX} are allowed",
                self.len()
            )));
        }
        for list in [&self.read, &self.ahead] {
            (list.len() as u64).encode(encoder)?;
            let mut end = None;
            for range in list {
                let ordered = end.is_none_or(|end| range.start > end) && range.start < range.end;
                if !ordered {
                    return Err(EncodeError::OtherString(format!(
                        "{range:?} is empty, or does not follow the one before"
                    )));
                }
                (range.start - end.unwrap_or(0), range.end - range.start).encode(encoder)?;
                end = Some(range.end);
            }
        }
        if overlap(&self.read, &self.ahead) { Err(EncodeError::Other(OVERLAP)) } else { Ok(()) }
    }
}

const OVERLAP: &str = "a part of a file is both read and read ahead";

impl<C> Decode<C> for Ranges {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let read = list(decoder, MAX)?;
        let ahead = list(decoder, MAX - read.len())?;
        if overlap(&read, &ahead) { Err(DecodeError::Other(OVERLAP)) } else { Ok(Self { read, ahead }) }
    }
}

impl_borrow_decode!(Ranges);

fn list<D: Decoder>(decoder: &mut D, max: usize) -> Result<Vec<Range>, DecodeError> {
    let count = u64::decode(decoder)?;
    if count > max as u64 {
        return Err(DecodeError::OtherString(format!("more than {MAX} ranges in a record")));
    }
    // A claimed number allocates nothing: the bytes end first.
    let mut ranges: Vec<Range> = Vec::new();
    for _ in 0..count {
        let (distance, length) = <(u64, u64)>::decode(decoder)?;
        let before = ranges.last().map(|last| last.end);
        if length == 0 || (distance == 0 && before.is_some()) {
            return Err(DecodeError::Other("a range of a file is empty, or does not follow the one before"));
        }
        let start = before.unwrap_or(0).checked_add(distance);
        let range = start.and_then(|start| Some(Range { start, end: start.checked_add(length)? }));
        ranges.push(range.ok_or(DecodeError::Other("a range of a file ends beyond 2^64"))?);
    }
    Ok(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::plain;

    type Pairs<'a> = &'a [(u64, u64)];

    fn ranges_of(pairs: Pairs<'_>) -> Vec<Range> {
        pairs.iter().map(|(start, end)| Range { start: *start, end: *end }).collect()
    }

    fn decoded(numbers: &[u64]) -> Result<Ranges, String> {
        let bytes: Vec<u8> = numbers.iter().flat_map(|n| plain::encode(n).unwrap()).collect();
        let decoded = plain::decode(&bytes);
        decoded.map(|(ranges, _)| ranges).map_err(|error| error.to_string())
    }

    #[test]
    fn ranges_are_sorted_and_joined() {
        let table: [(Pairs<'_>, Pairs<'_>, Pairs<'_>, Pairs<'_>); 10] = [
            (&[], &[], &[], &[]),
            (&[(5, 9), (0, 2)], &[], &[(0, 2), (5, 9)], &[]),
            // Touching, overlapping and contained ranges.
            (&[(0, 2), (2, 4), (3, 6), (4, 5)], &[], &[(0, 6)], &[]),
            (&[(3, 3), (9, 4)], &[(1, 1)], &[], &[]),
            // Bytes both read ahead and requested: at the front, in the middle, at the end, all.
            (&[(0, 4)], &[(0, 10)], &[(0, 4)], &[(4, 10)]),
            (&[(4, 6)], &[(0, 10)], &[(4, 6)], &[(0, 4), (6, 10)]),
            (&[(8, 12)], &[(0, 10)], &[(8, 12)], &[(0, 8)]),
            (&[(0, 20)], &[(3, 5), (7, 9)], &[(0, 20)], &[]),
            // One read over two read-ahead ranges, two reads in one.
            (&[(4, 8)], &[(0, 5), (7, 9)], &[(4, 8)], &[(0, 4), (8, 9)]),
            (&[(1, 2), (4, 6)], &[(0, 5), (5, 9)], &[(1, 2), (4, 6)], &[(0, 1), (2, 4), (6, 9)]),
        ];
        for (read, ahead, expected_read, expected_ahead) in table {
            let ranges = Ranges::new(ranges_of(read), ranges_of(ahead));
            let expected = Ranges { read: ranges_of(expected_read), ahead: ranges_of(expected_ahead) };
            assert_eq!(ranges, expected, "{read:?} {ahead:?}");
            assert_eq!(
                Ranges::new(ranges.read.clone(), ranges.ahead.clone()),
                ranges,
                "normalizing twice changes nothing"
            );
        }
    }

    #[test]
    fn every_byte_is_in_the_right_list() {
        // All sets of three ranges of lengths up to 3 within the first 6 bytes, compared with a table of
        // bytes.
        let all: Vec<_> = (0..6).flat_map(|start| (0..4).map(move |len| (start, start + len))).collect();
        for (one, two) in all.iter().flat_map(|one| all.iter().map(move |two| (*one, *two))) {
            for three in &all {
                let ranges = Ranges::new(ranges_of(&[one]), ranges_of(&[two, *three]));
                let is = |list: &[Range], at| list.iter().any(|range| (range.start..range.end).contains(&at));
                for at in 0..10 {
                    let read = (one.0..one.1).contains(&at);
                    let ahead = !read && ((two.0..two.1).contains(&at) || (three.0..three.1).contains(&at));
                    let told = (is(&ranges.read, at), is(&ranges.ahead, at));
                    assert_eq!(told, (read, ahead), "{one:?} {two:?} {three:?} at {at}");
                }
            }
        }
    }

    #[test]
    fn merge_joins_and_requests_win_over_read_ahead() {
        let mut ranges = Ranges::new(ranges_of(&[(0, 4)]), ranges_of(&[(4, 10)]));
        ranges.merge(&Ranges::new(ranges_of(&[(8, 9), (20, 30)]), ranges_of(&[(3, 5), (10, 12)])));
        let expected = Ranges { read: ranges_of(&[(0, 4), (8, 9), (20, 30)]), ahead: ranges_of(&[(4, 8), (9, 12)]) };
        assert_eq!((ranges.bytes_read(), ranges.bytes_ahead()), (15, 7));
        assert_eq!(ranges, expected);
    }

    #[test]
    fn ranges_survive_a_round_trip() {
        let odd = [(0, 1), (2, 4096), (1 << 40, (1 << 40) + 1), (u64::MAX - 1, u64::MAX)];
        for ranges in [
            Ranges::default(),
            Ranges::new(ranges_of(&odd), ranges_of(&[(5000, 6000)])),
            Ranges::new(vec![], ranges_of(&[(7, 9)])),
        ] {
            let bytes = plain::encode(&ranges).unwrap();
            let (read, used) = plain::decode::<Ranges>(&bytes).unwrap();
            assert_eq!((read, used), (ranges, bytes.len()));
        }
    }

    #[test]
    fn malformed_ranges_are_refused_with_a_reason() {
        let too_many = MAX as u64 + 1;
        for (numbers, reason) in [
            (&[1, 5, 0, 0][..], "empty"),
            (&[2, 0, 4, 0, 4, 0], "does not follow"),
            (&[2, 9, u64::MAX - 9, 9, 9, 0], "2^64"),
            (&[1, 2, u64::MAX, 0], "2^64"),
            (&[1, 4, 4, 1, 7, 9], "both read and read ahead"),
            (&[1, 4, 4, 1, 0, 5], "both read and read ahead"),
            (&[too_many], "more than 65536"),
            (&[u64::MAX], "more than 65536"),
            (&[65_536, 1, 1], ""),
        ] {
            let error = decoded(numbers).unwrap_err();
            assert!(error.contains(reason), "{numbers:?}: {error}");
        }
        assert_eq!(
            decoded(&[1, 4, 4, 2, 0, 4, 4, 1]),
            Ok(Ranges { read: ranges_of(&[(4, 8)]), ahead: ranges_of(&[(0, 4), (8, 9)]) })
        );
    }

    #[test]
    fn invalid_ranges_cannot_be_written() {
        let many: Vec<_> = (0..=MAX as u64).map(|n| (2 * n, 2 * n + 1)).collect();
        let table: [(Pairs<'_>, Pairs<'_>); 6] = [
            (&[(5, 5)], &[]),
            (&[(5, 3)], &[]),
            (&[(5, 9), (0, 2)], &[]),
            (&[(0, 2), (2, 4)], &[]),
            (&[(0, 4)], &[(3, 5)]),
            (&many, &[]),
        ];
        for (read, ahead) in table {
            let ranges = Ranges { read: ranges_of(read), ahead: ranges_of(ahead) };
            assert!(plain::encode(&ranges).is_err(), "{} ranges", read.len());
        }
    }
}
