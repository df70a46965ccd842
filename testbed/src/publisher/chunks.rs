//! Cuts large files into chunks.

/// Whether and how files are cut into chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chunking {
    /// Every file is one object.
    None,
    /// Files larger than `min` are cut at content-defined positions.
    Sizes {
        /// Smallest size, except for the last chunk. At least 32.
        min: usize,
        /// Typical size.
        avg: usize,
        /// Largest size.
        max: usize,
    },
}

/// Window of the rolling checksum in bytes.
const WINDOW: usize = 32;

/// The checksum values around this one make a cut.
const MAGIC: i32 = i32::MAX;

impl Chunking {
    /// The pieces of `content` in order; one piece means that the file is not chunked.
    ///
    /// Cuts where CVMFS's `Xor32Detector` cuts (`cvmfs/ingestion/chunk_detector.cc`), so equal parts of different files
    /// become equal chunks.
    pub(super) fn cut<'a>(&self, content: &'a [u8]) -> Vec<&'a [u8]> {
        let Self::Sizes { min, avg, max } = *self else { return vec![content] };
        if content.len() <= min {
            return vec![content];
        }
        let (mut pieces, mut rest) = (Vec::new(), content);
        while let Some(cut) = next_cut(rest, min, avg, max) {
            let (piece, behind) = rest.split_at(cut);
            pieces.push(piece);
            rest = behind;
        }
        if !rest.is_empty() {
            pieces.push(rest);
        }
        pieces
    }
}

fn next_cut(data: &[u8], min: usize, avg: usize, max: usize) -> Option<usize> {
    let threshold = (u32::MAX as usize / avg.max(1)) as i32;
    let mut checksum = 0_u32;
    for (at, byte) in data.iter().enumerate().take(max).skip(min.saturating_sub(WINDOW)) {
        checksum = (checksum << 1) ^ u32::from(*byte);
        // The distance is taken in 32 bits, as there: far values may overflow, and none of those is near.
        if at >= min && (checksum as i32).wrapping_sub(MAGIC).wrapping_abs() < threshold {
            return Some(at);
        }
    }
    (data.len() > max).then_some(max)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rand::{RngCore, SeedableRng, rngs::StdRng};

    use super::*;

    const SIZES: Chunking = Chunking::Sizes { min: 1 << 12, avg: 1 << 13, max: 1 << 14 };

    fn noise(len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        StdRng::seed_from_u64(7).fill_bytes(&mut bytes);
        bytes
    }

    /// The head of a file that cvmfs_server 2.12 chunked with these sizes, and where it cut.
    #[test]
    fn cuts_are_those_of_a_real_server() {
        let sizes = Chunking::Sizes { min: 16 << 10, avg: 48 << 10, max: 96 << 10 };
        let pieces = sizes.cut(include_bytes!("testdata/chunked.bin"));
        assert_eq!(pieces.iter().map(|piece| piece.len()).collect::<Vec<_>>(), [19_244, 23_903, 53]);
    }

    #[test]
    fn pieces_are_the_whole_and_within_their_limits() {
        for content in [noise(300_000), vec![0; 300_000], noise(4097), noise(1 << 14), noise((1 << 14) + 1)] {
            let pieces = SIZES.cut(&content);
            assert_eq!(pieces.concat(), content);
            let (_, but_last) = pieces.split_last().unwrap();
            assert!(but_last.iter().all(|piece| (1 << 12..=1 << 14).contains(&piece.len())));
            assert!(pieces.iter().all(|piece| !piece.is_empty() && piece.len() <= 1 << 14));
        }
        assert_eq!(SIZES.cut(&noise(1 << 12)).len(), 1);
        assert_eq!(SIZES.cut(b"").len(), 1);
        assert_eq!(Chunking::None.cut(&noise(300_000)).len(), 1);
    }

    #[test]
    fn cuts_follow_the_content_and_not_the_offset() {
        let content = noise(300_000);
        let shifted = [b"something in front".as_slice(), &content].concat();
        let (one, other) = (SIZES.cut(&content), SIZES.cut(&shifted));
        let shared = one.iter().filter(|piece| other.contains(piece)).count();
        assert!(shared > one.len() / 2, "only {shared} of {} pieces are shared", one.len());
    }
}
