//! One list of files out of many traces.

use std::collections::HashMap;

use crate::path::RootPath;
use crate::trace::Trace;

/// A file that at least one trace has.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct MergedFile {
    pub(super) path: RootPath,
    /// In how many traces it was used.
    pub(super) used_in: u32,
    /// Microseconds from the first exec to the earliest first use.
    pub(super) at_us: u64,
}

/// The files of all traces, each once, in order of earliest first use. The order of the traces does not matter:
/// equal times are ordered by the place in the trace, then by path.
pub(super) fn merge(traces: &[Trace]) -> Vec<MergedFile> {
    let mut files: HashMap<&RootPath, (u64, usize, u32)> = HashMap::new();
    for trace in traces {
        for (place, used) in trace.files.iter().enumerate() {
            let entry = files.entry(&used.path).or_insert((u64::MAX, usize::MAX, 0));
            let (at_us, first_place) = (entry.0, entry.1).min((used.at_us, place));
            *entry = (at_us, first_place, entry.2 + 1);
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
    use crate::trace::FileUse;

    fn trace(uses: &[(&str, u64)]) -> Trace {
        let image = ImageId { chain_id: ChainId(Digest::of(b"x")), manifest: None, reference: String::new() };
        let file =
            |(path, at_us): &(&str, u64)| FileUse { at_us: *at_us, ..FileUse::of(RootPath::new(*path).unwrap()) };
        Trace { files: uses.iter().map(file).collect(), ..Trace::of(image) }
    }

    #[test]
    fn earliest_use_decides_and_the_order_of_traces_does_not() {
        let one = trace(&[("/a", 5), ("/b", 9), ("/c", 9)]);
        let two = trace(&[("/c", 1), ("/a", 7)]);
        let merged = merge(&[one.clone(), two.clone()]);
        assert_eq!(merged, merge(&[two, one]));
        let seen: Vec<_> = merged.iter().map(|f| (f.path.to_string(), f.used_in, f.at_us)).collect();
        assert_eq!(seen, [("/c".to_string(), 2, 1), ("/a".to_string(), 2, 5), ("/b".to_string(), 1, 9)]);
    }
}
