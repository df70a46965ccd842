//! The table of marked pages: bitmaps of 64 pages each, as `bpf/event.h` has them, made into ranges of bytes.

use std::collections::BTreeMap;

use bundles::trace::{Range, Ranges};

use crate::event::Inode;

/// Target, inode, and device with the piece's number in the high half.
pub(crate) type PieceKey = [u64; 3];
/// One bit a page: read, and mapped along.
pub(crate) type Piece = [u64; 2];

const PIECE_PAGES: u64 = 64;

/// The ranges of each inode.
pub(crate) fn ranges(pieces: Vec<(PieceKey, Piece)>, page_shift: u32) -> impl Iterator<Item = (Inode, Ranges)> {
    let mut inodes: BTreeMap<(u32, u64), Vec<(u64, Piece)>> = BTreeMap::new();
    for ([_, number, place], piece) in pieces {
        inodes.entry((place as u32, number)).or_default().push((place >> 32, piece));
    }
    inodes.into_iter().map(move |((device, number), mut pieces)| {
        pieces.sort_unstable_by_key(|(piece, _)| *piece);
        let list = |which: usize| pieces.iter().flat_map(move |(piece, bits)| runs(*piece, bits[which], page_shift));
        (Inode { device, number }, Ranges::new(list(0).collect(), list(1).collect()))
    })
}

/// The runs of ones in the bitmap of a piece.
fn runs(piece: u64, mut bits: u64, page_shift: u32) -> impl Iterator<Item = Range> {
    let first = piece * PIECE_PAGES;
    let mut at = 0;
    std::iter::from_fn(move || {
        if bits == 0 {
            return None;
        }
        at += bits.trailing_zeros();
        bits >>= bits.trailing_zeros();
        let ones = bits.trailing_ones();
        let (start, end) = (first + u64::from(at), first + u64::from(at + ones));
        bits = bits.checked_shr(ones).unwrap_or(0);
        at += ones;
        Some(Range { start: start << page_shift, end: end << page_shift })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bitmaps_become_ranges_across_pieces() {
        let key = |number: u64, device: u64, piece: u64| [9, number, piece << 32 | device];
        let pieces = vec![
            (key(7, 3, 1), [0b1011, 1 << 63]),
            (key(7, 3, 0), [u64::MAX, 0]),
            (key(8, 3, 0), [0, 0b110]),
            (key(7, 4, 2), [1 << 63, 0]),
        ];
        let found: Vec<_> = ranges(pieces, 12).map(|(inode, ranges)| (inode.device, inode.number, ranges)).collect();
        let pages = |list: &[(u64, u64)]| -> Vec<Range> {
            list.iter().map(|(start, end)| Range { start: start << 12, end: end << 12 }).collect()
        };
        let expected = [
            (3, 7, Ranges { read: pages(&[(0, 66), (67, 68)]), ahead: pages(&[(127, 128)]) }),
            (3, 8, Ranges { read: vec![], ahead: pages(&[(1, 3)]) }),
            (4, 7, Ranges { read: pages(&[(191, 192)]), ahead: vec![] }),
        ];
        assert_eq!(found, expected);
    }
}
