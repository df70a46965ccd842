//! What a bundle or a trace needs, by path.

use std::collections::{BTreeMap, BTreeSet};

use super::display_path;
use crate::bundle::{Bundle, BundleObject, Share};
use crate::object::ContentHash;
use crate::path::RootPath;
use crate::phase::Phase;
use crate::trace::Trace;

/// What is needed of one file.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct File {
    /// Number of objects: one, or the file's chunks.
    pub objects: u64,
    /// Bytes of content.
    pub bytes: u64,
    /// Hashes of the objects; empty for traces, which do not have them.
    pub content: BTreeSet<ContentHash>,
}

/// What is needed, by path. A bundle names only one path of files with the same content.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Files(pub BTreeMap<RootPath, File>);

impl Files {
    /// All files of `bundle`.
    pub fn from_bundle(bundle: &Bundle) -> Self {
        Self::chosen(bundle, |_| true)
    }

    /// The files that a start is expected to need: objects of the set-up and start-up phases that are needed
    /// with a probability of at least one half.
    pub fn start_up_of(bundle: &Bundle) -> Self {
        let half = Share::ratio(1, 2);
        Self::chosen(bundle, |object| object.need.phase != Phase::Main && object.need.expected() >= half)
    }

    /// The files of the image that the recorded start needed: first used in the set-up and start-up phases.
    pub fn start_up_of_trace(trace: &Trace) -> Self {
        let mut files = Self::default();
        let used =
            trace.files.iter().filter(|file| file.needs_image() && trace.phases.phase_at(file.at_us) != Phase::Main);
        for file in used {
            let needed = files.0.entry(file.path.clone()).or_default();
            needed.objects = 1;
            needed.bytes = needed.bytes.max(file.size);
        }
        files
    }

    fn chosen(bundle: &Bundle, is_chosen: impl Fn(&BundleObject) -> bool) -> Self {
        let mut files = Self::default();
        for object in bundle.objects.iter().filter(|object| is_chosen(object)) {
            let file = files.0.entry(display_path(bundle, object)).or_default();
            file.objects += 1;
            file.bytes = file.bytes.saturating_add(object.raw_size);
            file.content.insert(object.hash);
        }
        files
    }
}
