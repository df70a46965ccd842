//! Bundles for other prefetchers, which know files by their paths only.
//!
//! [`Files`] are the image's files of a bundle, in the order in which to fetch them. A format is a function from them to
//! the bytes of its file; each module says who reads it.

mod native;
mod nydus;
mod soci;
mod stargz;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fmt;

pub use native::{Native, NativeFile, NoTrigger, native};
pub use nydus::nydus;
pub use soci::soci;
pub use stargz::stargz;

use crate::bundle::{Bundle, Share};
use crate::image::Digest;
use crate::object::ObjectKind;
use crate::path::RootPath;

/// What one format takes of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// The file's content.
    pub content: Vec<u8>,
    /// Files with names that the format cannot express.
    pub inexpressible: usize,
}

/// The image's files of a bundle, each once, in order of need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    manifest: Option<Digest>,
    files: Vec<LayerFile>,
    /// What no such list can hold.
    pub left_out: LeftOut,
}

/// A file of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
struct LayerFile {
    /// In the container.
    container: RootPath,
    /// In the repository.
    repository: RootPath,
    /// With what probability a start needs it.
    expected: Share,
}

/// Objects that stand for no file of the image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Of another repository.
    pub other_repositories: usize,
    /// Catalogs and the like.
    pub catalogs: usize,
    /// Of the image's repository, but not in a layer.
    pub outside_layers: usize,
}

impl Files {
    /// What `bundle` plans for `profile`.
    pub fn of(bundle: &Bundle, profile: Option<&str>) -> Self {
        let (mut seen, mut left_out, mut files) = (HashSet::new(), LeftOut::default(), Vec::new());
        for object in bundle.plan(profile).into_iter().filter_map(|place| bundle.objects.get(place)) {
            if object.repository != 0 {
                left_out.other_repositories += 1;
            } else if !matches!(object.kind, ObjectKind::File | ObjectKind::Chunk) {
                left_out.catalogs += 1;
            } else if let Some(container) = object.container_path() {
                // Chunks of one file share its path.
                if seen.insert(container.clone()) {
                    let (repository, expected) = (object.path.clone(), object.need.expected());
                    files.push(LayerFile { container, repository, expected });
                }
            } else {
                left_out.outside_layers += 1;
            }
        }
        Self { manifest: bundle.image.manifest, files, left_out }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The paths in the container for which `expressible` holds, and how many others there are.
    fn texts(&self, expressible: impl Fn(&str) -> bool) -> (Vec<&str>, usize) {
        let files = self.files.iter().filter_map(|file| std::str::from_utf8(file.container.as_bytes()).ok());
        let texts: Vec<&str> = files.filter(|text| expressible(text)).collect();
        let others = self.files.len() - texts.len();
        (texts, others)
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} objects of other repositories, {} catalogs, {} objects outside of layers",
            self.other_repositories, self.catalogs, self.outside_layers
        )
    }
}
