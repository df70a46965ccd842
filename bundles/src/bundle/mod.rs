//! The list of objects that a start of an image needs, in the order in which they are expected to be needed.
//!
//! ```text
//! image, repositories | objects, in order of expected need | profiles | nested catalogs | packs | where it was carried from | layers
//! ```
//!
//! The file is specified in `docs/src/bundle-format.md`: [`sections`] of which a reader skips those it does not know; the
//! objects are kept as [`columns`], so that they compress.

mod carried;
mod catalog;
mod columns;
mod layer;
mod need;
mod object;
mod pack;
mod profile;
mod sections;
mod skipped;
#[cfg(test)]
mod tests;

use std::path::Path;

use serde::Serialize;

pub use carried::CarriedOver;
pub use catalog::NeededCatalog;
pub use layer::{CATALOG, MAX_LAYERS, MAX_MARKS, MarkedDirectory, OPAQUE, PublishedLayer, WHITEOUT};
pub use need::{Need, Share};
pub use object::{BundleObject, Packed};
pub use pack::PackRef;
pub use profile::{MAX_PROFILES, Profile, ProfileSet};
pub use skipped::Skipped;

use crate::codec::{BadFile, Format};
use crate::file::FileError;
use crate::image::ImageId;

/// Bundle files: `CPFB`. Specified in `docs/src/bundle-format.md`.
pub const FORMAT: Format = Format { name: "bundle", magic: *b"CPFB", major: 2, minor: 1 };

/// The most objects that a bundle may have.
pub const MAX_OBJECTS: usize = 1_000_000;

/// The most repositories that a bundle may have.
pub const MAX_REPOSITORIES: usize = 4_096;

/// The most nested catalogs that a bundle may name.
pub const MAX_CATALOGS: usize = 100_000;

/// The most packs that a bundle may name.
pub const MAX_PACKS: usize = 4_096;

/// What to have in a node's cache before a container of one image starts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Bundle {
    /// The image.
    pub image: ImageId,
    /// Fully qualified names of the repositories that hold the objects; the first is the image's.
    pub repositories: Vec<String>,
    /// How many traces it was made of.
    pub traces: u32,
    /// How many of these were incomplete.
    pub incomplete_traces: u32,
    /// The objects, in order of expected need, each once.
    pub objects: Vec<BundleObject>,
    /// What the image is run for, the most frequent first. An object with no profile is of the common part.
    pub profiles: Vec<Profile>,
    /// Nested catalogs that lead to the files, by path, as their hashes change with a repository's revisions.
    pub catalogs: Vec<NeededCatalog>,
    /// Packs that hold some of the objects.
    pub packs: Vec<PackRef>,
    /// The bundle of another image that this one was made from.
    pub carried: Option<CarriedOver>,
    /// What the image's published layers delete, lowest layer first. A layer that is not among them has to be looked through.
    pub layers: Vec<PublishedLayer>,
    /// Paths of the traces that no object stands for, by cause.
    pub skipped: Skipped,
}

impl Bundle {
    /// A bundle of nothing, to be filled in.
    pub fn of(image: ImageId, repository: impl Into<String>) -> Self {
        Self {
            image,
            repositories: vec![repository.into()],
            traces: 0,
            incomplete_traces: 0,
            objects: Vec::new(),
            profiles: Vec::new(),
            catalogs: Vec::new(),
            packs: Vec::new(),
            carried: None,
            layers: Vec::new(),
            skipped: Skipped::default(),
        }
    }

    /// The repository that has the image's layers.
    pub fn repository(&self) -> &str {
        self.repositories.first().map_or("", String::as_str)
    }

    /// The repository that has `object`.
    pub fn repository_of(&self, object: &BundleObject) -> &str {
        self.repositories.get(usize::from(object.repository)).map_or("", String::as_str)
    }

    /// Places of the objects that a start needs, in the order in which to fetch them. With the name of a profile these
    /// are the common part and that profile's, in order of need; else the common part, and then the profiles', the most
    /// frequent first. An empty name, or one that the bundle does not know, is as
    /// none.
    pub fn plan(&self, profile: Option<&str>) -> Vec<usize> {
        let named = profile.filter(|name| !name.is_empty());
        let known = named.and_then(|name| self.profiles.iter().position(|profile| profile.name == name));
        let of = |place: &usize| self.objects.get(*place).map(|object| object.need.profiles).unwrap_or_default();
        let mut places: Vec<usize> = (0..self.objects.len()).collect();
        match known {
            Some(profile) => places.retain(|place| of(place).is_empty() || of(place).has(profile)),
            None => places.sort_by_key(|place| of(place).first().map_or(0, |profile| profile + 1)),
        }
        places
    }

    /// Bytes on the servers, and bytes in a cache, of all objects.
    pub fn bytes(&self) -> (u64, u64) {
        self.objects.iter().fold((0, 0), |(stored, raw): (u64, u64), object| {
            (stored.saturating_add(object.stored_size), raw.saturating_add(object.raw_size))
        })
    }

    /// Reads a bundle's bytes and checks what the format promises.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BadFile> {
        let (payload, minor) = FORMAT.unwrap(bytes)?;
        sections::decode(payload, minor)
    }

    /// The bytes of a bundle file.
    pub fn to_bytes(&self) -> Result<Vec<u8>, BadFile> {
        FORMAT.wrap(&sections::encode(self)?)
    }

    /// Reads a bundle file.
    pub fn read(path: &Path) -> Result<Self, FileError> {
        crate::file::read(path, Self::from_bytes)
    }

    /// Writes a bundle file, whole or not at all.
    pub fn write(&self, path: &Path) -> Result<(), FileError> {
        crate::file::write(path, self.to_bytes())
    }
}

/// Whether `name` is a fully qualified repository name: a host name with at least one dot.
pub fn is_fqrn(name: &str) -> bool {
    name.len() <= 255
        && name.contains('.')
        && name.split('.').all(|part| {
            !part.is_empty()
                && !part.starts_with('-')
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        })
}
