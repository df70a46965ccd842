//! What a bundle or a trace needs, by path.

use std::collections::{BTreeMap, BTreeSet};

use super::place;
use crate::bundle::{Bundle, BundleObject, Share};
use crate::object::ContentHash;
use crate::path::RootPath;
use crate::trace::{Phase, Trace};

/// What is needed of one file.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct File {
    /// Objects: one, or a file's chunks.
    pub objects: u64,
    /// Bytes.
    pub bytes: u64,
    /// The objects' names, which a trace does not tell.
    pub content: BTreeSet<ContentHash>,
}

/// What is needed, by path. Of files with the same content a bundle names one.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Files(pub BTreeMap<RootPath, File>);

impl Files {
    /// All of `bundle`.
    pub fn of(bundle: &Bundle) -> Self {
        Self::chosen(bundle, |_| true)
    }

    /// What a start with `bundle` is expected to need: the objects of the set-up and start-up phases that are needed more
    /// likely than not.
    pub fn start_up_of(bundle: &Bundle) -> Self {
        let half = Share::of(1, 2);
        Self::chosen(bundle, |object| object.need.phase != Phase::Main && object.need.expected() >= half)
    }

    /// What the start in `trace` needed of the image: the files first used in the set-up and start-up phases.
    pub fn start_up_of_trace(trace: &Trace) -> Self {
        let mut files = Self::default();
        let needed = trace.files.iter().filter(|file| file.needs_image() && trace.phases.of(file.at_us) != Phase::Main);
        for file in needed {
            let of = files.0.entry(file.path.clone()).or_default();
            (of.objects, of.bytes) = (1, of.bytes.max(file.size));
        }
        files
    }

    fn chosen(bundle: &Bundle, wanted: impl Fn(&BundleObject) -> bool) -> Self {
        let mut files = Self::default();
        for object in bundle.objects.iter().filter(|object| wanted(object)) {
            let file = files.0.entry(place(bundle, object)).or_default();
            file.objects += 1;
            file.bytes = file.bytes.saturating_add(object.raw_size);
            file.content.insert(object.hash);
        }
        files
    }
}
