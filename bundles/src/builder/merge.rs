//! One list of files out of many traces.

use std::collections::HashMap;

use crate::path::RootPath;
use crate::trace::Trace;

/// A file that at least one trace has.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct MergedFile {
    pub(super) path: RootPath,
    /// In how many traces what the image has of it was used: 0 if containers only wrote it.
    pub(super) used_in: u32,
    /// Microseconds from the first exec to the earliest first use.
    pub(super) at_us: u64,
}

/// The files of all traces, each once, in order of the earliest first use that needs what the image has. The order of
/// the traces does not matter: equal times are ordered by the place in the trace, then by path. Behind them are files
/// that are used in none, as containers only wrote them.
pub(super) fn merge(traces: &[Trace]) -> Vec<MergedFile> {
    let mut files: HashMap<&RootPath, (u64, usize, u32)> = HashMap::new();
    for trace in traces {
        for (place, used) in trace.files.iter().enumerate() {
            let entry = files.entry(&used.path).or_insert((u64::MAX, usize::MAX, 0));
            if used.needs_image() {
                let (at_us, first_place) = (entry.0, entry.1).min((used.at_us, place));
                *entry = (at_us, first_place, entry.2 + 1);
            }
        }
    }
    let mut ordered: Vec<_> = files.into_iter().collect();
    ordered.sort_by(|(a, (a_at, a_place, _)), (b, (b_at, b_place, _))| (a_at, a_place, a).cmp(&(b_at, b_place, b)));
    ordered.into_iter().map(|(path, (at_us, _, used_in))| MergedFile { path: path.clone(), used_in, at_us }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{ChainId, Digest, ImageId};
    use crate::trace::{FileUse, Range, Ranges};

    fn trace(uses: &[(&str, u64)]) -> Trace {
        let image = ImageId { chain_id: ChainId(Digest::of(b"x")), manifest: None, reference: String::new() };
        let file =
            |(path, at_us): &(&str, u64)| FileUse { at_us: *at_us, ..FileUse::of(RootPath::new(*path).unwrap()) };
        Trace { files: uses.iter().map(file).collect(), ..Trace::of(image) }
    }

    /// The paths with their counts and times.
    fn seen(merged: &[MergedFile]) -> Vec<(&[u8], u32, u64)> {
        merged.iter().map(|file| (file.path.as_bytes(), file.used_in, file.at_us)).collect()
    }

    #[test]
    fn earliest_use_decides_and_the_order_of_traces_does_not() {
        let one = trace(&[("/a", 5), ("/b", 9), ("/c", 9)]);
        let two = trace(&[("/c", 1), ("/a", 7)]);
        let merged = merge(&[one.clone(), two.clone()]);
        assert_eq!(merged, merge(&[two, one]));
        assert_eq!(seen(&merged), [(&b"/c"[..], 2, 1), (b"/a", 2, 5), (b"/b", 1, 9)]);
    }

    #[test]
    fn a_written_file_counts_where_what_the_image_has_was_read() {
        let part = |start, end| Some(Ranges::new(vec![Range { start, end }], Vec::new()));
        for (written, ranges, needed) in [
            (false, None, true),
            (false, Some(Ranges::default()), true),
            (true, None, false),
            (true, Some(Ranges::default()), false),
            (true, part(0, 4096), true),
            (true, Some(Ranges { ahead: vec![Range { start: 0, end: 1 }], ..Ranges::default() }), true),
        ] {
            let mut one = trace(&[("/a", 3)]);
            one.files = one.files.into_iter().map(|file| FileUse { written, ranges: ranges.clone(), ..file }).collect();
            let expected = if needed { (&b"/a"[..], 1, 3) } else { (&b"/a"[..], 0, u64::MAX) };
            assert_eq!(seen(&merge(std::slice::from_ref(&one))), [expected], "{written} {ranges:?}");
            // Merely read in another trace it stays, with the use that needs it.
            let both = merge(&[trace(&[("/a", 9)]), one]);
            let expected = if needed { (&b"/a"[..], 2, 3) } else { (&b"/a"[..], 1, 9) };
            assert_eq!(seen(&both), [expected], "{written} {ranges:?}");
        }
    }
}
