//! Bundles: the objects that a start of an image needs, in order of expected need.
//!
//! ```text
//! image, repositories | objects, in order of expected need | profiles | nested catalogs | packs | rebased from | layers
//! ```
//!
//! `docs/src/bundle-format.md` specifies the file: [`sections`] (readers skip unknown ones), with the objects stored as
//! [`columns`], which compress well.

mod columns;
mod index;
mod layer;
mod locations;
mod need;
mod object;
mod profile;
mod sections;
mod skipped;
#[cfg(test)]
mod tests;

use std::path::Path;

use serde::Serialize;

pub use index::{ObjectIndex, PackIndex};
pub use layer::{CATALOG_MARKER, MAX_LAYERS, MAX_WHITEOUTS, OPAQUE, PublishedLayer, WHITEOUT, WhiteoutDirectory};
pub use need::{Need, Share};
pub use object::{BundleObject, PackLocation};
pub use profile::{MAX_PROFILES, Profile, ProfileSet};
pub use skipped::Skipped;

use crate::codec::{Decode, Encode, Format, FormatError};
use crate::file::FileError;
use crate::image::{Digest, ImageId};
use crate::path::RootPath;

/// The format of bundle files, `CPFB`, which `docs/src/bundle-format.md` specifies.
pub const FORMAT: Format = Format { name: "bundle", magic: *b"CPFB", major: 2, minor: 1 };

/// Most objects of a bundle.
pub const MAX_OBJECTS: usize = 1_000_000;

/// Most repositories of a bundle.
pub const MAX_REPOSITORIES: usize = 4_096;

/// Most nested catalogs of a bundle.
pub const MAX_CATALOGS: usize = 100_000;

/// Most packs of a bundle.
pub const MAX_PACKS: usize = 4_096;

/// Bytes that a list entry on the heap takes beside its content: pointer, length, capacity, and the allocator's share.
const HEAP_ENTRY: usize = 40;

/// Bytes of memory for an object without the bytes of its path.
const OBJECT_MEMORY: usize = size_of::<BundleObject>() + 16;

/// The objects to have in a node's cache before a container of one image starts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Bundle {
    /// The image that the bundle is for.
    pub image: ImageId,
    /// Fully qualified names of the repositories that hold the objects. The first holds the image's layers.
    pub repositories: Vec<String>,
    /// Number of traces it was built from.
    pub traces: u32,
    /// Number of these traces that were incomplete.
    pub incomplete_traces: u32,
    /// The objects, in order of expected need, each once.
    pub objects: Vec<BundleObject>,
    /// The profiles, the most frequent first. An object without a profile belongs to the common section.
    pub profiles: Vec<Profile>,
    /// Nested catalogs on the way to the files. They are named by path, because their hashes change with a
    /// repository's revisions.
    pub catalogs: Vec<NeededCatalog>,
    /// Packs that hold some of the objects.
    pub packs: Vec<PackRef>,
    /// The bundle that this one was rebased from, if any.
    pub rebased: Option<Rebased>,
    /// Whiteouts of the image's published layers, lowest layer first. A layer that is not listed must be
    /// searched for its whiteouts.
    pub layers: Vec<PublishedLayer>,
    /// Paths of the traces for which the bundle has no object, by cause.
    pub skipped: Skipped,
}

impl Bundle {
    /// An empty bundle of `image`, whose layers are in `repository`.
    pub fn new(image: ImageId, repository: impl Into<String>) -> Self {
        Self {
            image,
            repositories: vec![repository.into()],
            traces: 0,
            incomplete_traces: 0,
            objects: Vec::new(),
            profiles: Vec::new(),
            catalogs: Vec::new(),
            packs: Vec::new(),
            rebased: None,
            layers: Vec::new(),
            skipped: Skipped::default(),
        }
    }

    /// The repository that holds the image's layers.
    pub fn repository(&self) -> &str {
        self.repositories.first().map_or("", String::as_str)
    }

    /// The repository that holds `object`.
    pub fn repository_of(&self, object: &BundleObject) -> &str {
        self.repositories.get(usize::from(object.repository)).map_or("", String::as_str)
    }

    /// The object with this index. An index of another bundle may panic, as with a slice.
    pub fn object(&self, index: ObjectIndex) -> &BundleObject {
        &self.objects[index.as_usize()]
    }

    /// The indices of all objects, in order of expected need.
    pub fn indices(&self) -> impl DoubleEndedIterator<Item = ObjectIndex> + ExactSizeIterator {
        (0..self.objects.len() as u32).map(ObjectIndex::new)
    }

    /// The pack with this index, if the bundle has it.
    pub fn pack(&self, index: PackIndex) -> Option<&PackRef> {
        self.packs.get(index.as_usize())
    }

    /// The objects that a start needs, in the order in which to fetch them.
    ///
    /// With the name of a profile: the common section and that profile's section, merged in order of need. Without one,
    /// with an empty name or an unknown one: the common section, then the profiles' sections, the most frequent first.
    pub fn plan(&self, profile: Option<&str>) -> Vec<ObjectIndex> {
        let name = profile.filter(|name| !name.is_empty());
        let profile = name.and_then(|name| self.profiles.iter().position(|profile| profile.name == name));
        let profiles_of = |index: ObjectIndex| self.object(index).need.profiles;
        let mut plan: Vec<ObjectIndex> = self.indices().collect();
        match profile {
            Some(profile) => plan.retain(|index| profiles_of(*index).is_empty() || profiles_of(*index).has(profile)),
            None => plan.sort_by_key(|index| profiles_of(*index).first().map_or(0, |profile| profile + 1)),
        }
        plan
    }

    /// Stored bytes and raw bytes of all objects together.
    pub fn bytes(&self) -> (u64, u64) {
        self.objects.iter().fold((0, 0), |(stored, raw): (u64, u64), object| {
            (stored.saturating_add(object.stored_size), raw.saturating_add(object.raw_size))
        })
    }

    /// Decodes the bytes of a bundle file and checks what the format guarantees.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FormatError> {
        Self::from_bytes_within(bytes, usize::MAX)
    }

    /// Decodes as [`Bundle::from_bytes`] does, and takes at most some `memory` bytes for it at a time, beside `bytes`. A bundle that
    /// needs more is refused before that memory is taken.
    pub fn from_bytes_within(bytes: &[u8], memory: usize) -> Result<Self, FormatError> {
        let (payload, minor) = FORMAT.unwrap(bytes)?;
        sections::decode(payload, minor, memory)
    }

    /// How many bytes of memory the bundle takes, within a few percent.
    pub fn memory(&self) -> usize {
        let paths: usize = self.objects.iter().map(|object| object.path.as_bytes().len()).sum();
        let catalogs: usize =
            self.catalogs.iter().map(|catalog| catalog.mountpoint.as_bytes().len() + HEAP_ENTRY).sum();
        let directories = self.layers.iter().flat_map(|layer| &layer.directories);
        let layers: usize = directories.map(WhiteoutDirectory::memory).sum();
        self.objects.len() * OBJECT_MEMORY + paths + catalogs + layers + self.packs.len() * size_of::<PackRef>()
    }

    /// Decodes only the layers in the bytes of a bundle file. `max` bounds what they may take, in bytes, encoded.
    pub fn layers_from_bytes(bytes: &[u8], max: usize) -> Result<Vec<PublishedLayer>, FormatError> {
        let (payload, minor) = FORMAT.unwrap(bytes)?;
        sections::decode_layers(payload, minor, max)
    }

    /// Encodes the bundle as the bytes of a bundle file.
    pub fn to_bytes(&self) -> Result<Vec<u8>, FormatError> {
        FORMAT.wrap(&sections::encode(self)?)
    }

    /// Reads a bundle file.
    pub fn read(path: &Path) -> Result<Self, FileError> {
        crate::file::read(path, Self::from_bytes)
    }

    /// Writes a bundle file, completely or not at all.
    pub fn write(&self, path: &Path) -> Result<(), FileError> {
        crate::file::write(path, self.to_bytes())
    }
}

/// A nested catalog on the way to some of a bundle's files. A node loads it by touching the directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Encode, Decode)]
#[bincode(crate = "crate::codec")]
pub struct NeededCatalog {
    /// Index of its repository among the bundle's.
    pub repository: u16,
    /// Directory at which the catalog begins.
    pub mountpoint: RootPath,
}

/// A pack that holds objects of a bundle. See `docs/pack-format.md`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Encode, Decode)]
#[bincode(crate = "crate::codec")]
pub struct PackRef {
    /// SHA-256 of the pack file, which is also its name.
    pub digest: Digest,
    /// Size of the file in bytes.
    pub size: u64,
}

/// Where a rebased bundle came from, and what became of the objects of the old one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Encode, Decode)]
#[bincode(crate = "crate::codec")]
pub struct Rebased {
    /// The image of the old bundle.
    pub from: ImageId,
    /// Objects whose path has the same content in the new image.
    pub unchanged: u32,
    /// Objects whose path has other content in the new image.
    pub changed: u32,
    /// Objects whose path does not exist in the new image.
    pub removed: u32,
}
