//! The `Range` header, as far as one range of bytes goes (RFC 9110, section 14).

/// The requested part of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// The whole file: no range, or one that is ignored.
    Whole,
    /// The bytes from `first` to `last`, both included.
    Range { first: u64, last: u64 },
    /// A range outside the file.
    Unsatisfiable,
}

/// The part that `header` requests of a file of `size` bytes. Several ranges, other units and syntax errors mean the whole file.
pub(super) fn parse(header: &str, size: u64) -> Part {
    let Some((first, last)) = header.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return Part::Whole;
    };
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten();
    let (first, last) = match (first, last) {
        ("", last) => match number(last) {
            Some(length) if length > 0 => (size.saturating_sub(length), u64::MAX),
            Some(_) => return Part::Unsatisfiable,
            None => return Part::Whole,
        },
        (first, "") => match number(first) {
            Some(first) => (first, u64::MAX),
            None => return Part::Whole,
        },
        (first, last) => match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => (first, last),
            _ => return Part::Whole,
        },
    };
    if first >= size { Part::Unsatisfiable } else { Part::Range { first, last: last.min(size - 1) } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_to_the_file() {
        let range = |first, last| Part::Range { first, last };
        for (header, size, expected) in [
            ("bytes=0-0", 10, range(0, 0)),
            ("bytes=2-5", 10, range(2, 5)),
            ("bytes=2-", 10, range(2, 9)),
            ("bytes=2-99", 10, range(2, 9)),
            ("bytes=-3", 10, range(7, 9)),
            ("bytes=-30", 10, range(0, 9)),
            ("bytes=-0", 10, Part::Unsatisfiable),
            ("bytes=10-", 10, Part::Unsatisfiable),
            ("bytes=0-", 0, Part::Unsatisfiable),
            ("bytes=5-2", 10, Part::Whole),
            ("bytes=0-1,3-4", 10, Part::Whole),
            ("bytes=+1-4", 10, Part::Whole),
            ("bytes=-", 10, Part::Whole),
            ("lines=1-2", 10, Part::Whole),
            ("", 10, Part::Whole),
        ] {
            assert_eq!(parse(header, size), expected, "{header:?} of {size}");
        }
    }
}
