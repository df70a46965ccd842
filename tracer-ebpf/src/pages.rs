//! Turns the kernel part's map `page_bitmaps` (see `bpf/maps.h`) into ranges of bytes.

use std::collections::BTreeMap;

use bundles::trace::{Range, Ranges};

use crate::event::Inode;

/// `struct bitmap_key`: target, inode number, and the device in the low, the block's number in the high half of a word.
pub(crate) type BitmapKey = [u64; 3];
/// `struct page_bitmap`, one bit a page: pages read or faulted in, and pages mapped by fault-around.
pub(crate) type PageBitmap = [u64; 2];

/// Pages in one block, `BITMAP_PAGES` in `bpf/event.h`.
const BLOCK_PAGES: u64 = 64;

/// Merges the bitmaps of each inode. `page_shift` is log2 of the page size.
pub(crate) fn ranges(bitmaps: Vec<(BitmapKey, PageBitmap)>, page_shift: u32) -> impl Iterator<Item = (Inode, Ranges)> {
    let mut inodes: BTreeMap<(u32, u64), Vec<(u64, PageBitmap)>> = BTreeMap::new();
    for ([_, number, device_and_block], bitmap) in bitmaps {
        let inode = (device_and_block as u32, number);
        inodes.entry(inode).or_default().push((device_and_block >> 32, bitmap));
    }
    inodes.into_iter().map(move |((device, number), mut blocks)| {
        blocks.sort_unstable_by_key(|(block, _)| *block);
        let list = |which: usize| blocks.iter().flat_map(move |(block, bits)| runs(*block, bits[which], page_shift));
        (Inode { device, number }, Ranges::new(list(0).collect(), list(1).collect()))
    })
}

/// The runs of ones in the bitmap of a block, as ranges of bytes.
fn runs(block: u64, mut bits: u64, page_shift: u32) -> impl Iterator<Item = Range> {
    let first = block * BLOCK_PAGES;
    let mut at = 0;
    std::iter::from_fn(move || {
        if bits == 0 {
            return None;
        }
        at += bits.trailing_zeros();
        bits >>= bits.trailing_zeros();
        let ones = bits.trailing_ones();
        let start = first + u64::from(at);
        let end = first + u64::from(at + ones);
        bits = bits.checked_shr(ones).unwrap_or(0);
        at += ones;
        Some(Range { start: start << page_shift, end: end << page_shift })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bitmaps_become_ranges_across_blocks() {
        let key = |number: u64, device: u64, block: u64| [9, number, block << 32 | device];
        let bitmaps = vec![
            (key(7, 3, 1), [0b1011, 1 << 63]),
            (key(7, 3, 0), [u64::MAX, 0]),
            (key(8, 3, 0), [0, 0b110]),
            (key(7, 4, 2), [1 << 63, 0]),
        ];
        let found: Vec<_> = ranges(bitmaps, 12).map(|(inode, ranges)| (inode.device, inode.number, ranges)).collect();
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
