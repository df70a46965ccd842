//! Export of bundles for other prefetchers, which know files only by their paths.
//!
//! [`Files`] are the image's files of a bundle, in the order in which to fetch them. Each format is a function from them to the bytes
//! of its file.

mod lists;
mod native;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fmt;

pub use lists::{nydus, soci, stargz};
pub use native::{Native, NativeFile, TriggerError, native};

use crate::bundle::{Bundle, Share};
use crate::image::Digest;
use crate::object::ObjectKind;
use crate::path::RootPath;

/// A bundle in one format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// Content of the file.
    pub content: Vec<u8>,
    /// Number of files whose names the format cannot express.
    pub inexpressible: usize,
}

/// The image's files of a bundle, each once, in order of need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    manifest: Option<Digest>,
    files: Vec<LayerFile>,
    /// Objects that such a list cannot contain.
    pub not_exported: NotExported,
}

/// A file of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
struct LayerFile {
    /// Path in the container.
    container: RootPath,
    /// Path in the repository.
    repository: RootPath,
    /// Probability that a start needs it.
    expected: Share,
}

/// Objects that are not files of the image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NotExported {
    /// Objects of other repositories.
    pub other_repositories: usize,
    /// Catalogs and the like.
    pub catalogs: usize,
    /// Objects of the image's repository outside of its layers.
    pub outside_layers: usize,
}

impl Files {
    /// The files that `bundle` plans for `profile`.
    pub fn from_bundle(bundle: &Bundle, profile: Option<&str>) -> Self {
        let mut seen = HashSet::new();
        let mut not_exported = NotExported::default();
        let mut files = Vec::new();
        for object in bundle.plan(profile).into_iter().map(|index| bundle.object(index)) {
            if object.repository != 0 {
                not_exported.other_repositories += 1;
            } else if !matches!(object.kind, ObjectKind::File | ObjectKind::Chunk) {
                not_exported.catalogs += 1;
            } else if let Some(container) = object.container_path() {
                // Chunks of one file have the same path.
                if seen.insert(container.clone()) {
                    let (repository, expected) = (object.path.clone(), object.need.expected());
                    files.push(LayerFile { container, repository, expected });
                }
            } else {
                not_exported.outside_layers += 1;
            }
        }
        Self { manifest: bundle.image.manifest, files, not_exported }
    }

    /// Number of files.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether there are no files.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The container paths for which `expressible` holds, and the number of the others.
    fn texts(&self, expressible: impl Fn(&str) -> bool) -> (Vec<&str>, usize) {
        let files = self.files.iter().filter_map(|file| std::str::from_utf8(file.container.as_bytes()).ok());
        let texts: Vec<&str> = files.filter(|text| expressible(text)).collect();
        let others = self.files.len() - texts.len();
        (texts, others)
    }
}

impl fmt::Display for NotExported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} objects of other repositories, {} catalogs, {} objects outside of layers",
            self.other_repositories, self.catalogs, self.outside_layers
        )
    }
}
