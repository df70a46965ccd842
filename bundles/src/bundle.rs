//! The list of objects that a start of an image needs, in the order in which they are first needed.

use std::path::Path;

use bincode::Decode;
use bincode::de::Decoder;
use bincode::error::DecodeError;
use serde::Serialize;

use crate::codec::{self, BadFile, Format, Minor};
use crate::file::FileError;
use crate::image::ImageId;
use crate::object::{ContentHash, ObjectKind};
use crate::path::RootPath;

/// Bundle files: `CPFB`. Specified in `docs/bundle-format.md`.
pub const FORMAT: Format = Format { name: "bundle", magic: *b"CPFB", major: 1, minor: 1 };

/// The most objects that a bundle may have.
pub const MAX_OBJECTS: usize = 1_000_000;

/// What to have in a node's cache before a container of one image starts.
#[derive(Debug, Clone, PartialEq, Serialize, bincode::Encode, bincode::Decode)]
#[bincode(decode_context = "Minor")]
pub struct Bundle {
    /// The image.
    pub image: ImageId,
    /// Fully qualified name of the repository that holds the objects.
    pub repository: String,
    /// How many traces it was made of.
    pub traces: u32,
    /// How many of these were incomplete.
    pub incomplete_traces: u32,
    /// The objects, in order of first need, each once.
    pub objects: Vec<BundleObject>,
    /// Paths of the traces that no object stands for, by cause.
    pub skipped: Skipped,
}

/// One object of a bundle.
#[derive(Debug, Clone, PartialEq, Serialize, bincode::Encode, bincode::Decode)]
pub struct BundleObject {
    /// Its name.
    pub hash: ContentHash,
    /// File, chunk or catalog.
    pub kind: ObjectKind,
    /// Bytes on the server.
    pub stored_size: u64,
    /// Bytes in a cache.
    pub raw_size: u64,
    /// In how many of the traces it was used.
    pub used_in: u32,
    /// Microseconds from the first exec to its first use, earliest of all traces. Catalogs are needed before: 0.
    pub at_us: u64,
    /// A path in the repository that it is for, for people.
    pub path: RootPath,
}

/// How many traced paths were left out of a bundle, by cause.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, bincode::Encode)]
pub struct Skipped {
    /// In no layer: made by the container itself, or by the runtime.
    pub not_in_image: u64,
    /// In a layer that the repository does not have.
    pub layer_not_in_repository: u64,
    /// External files, uncompressed ones, or named by a hash that cannot be verified here.
    pub unsupported: u64,
    /// The container made or changed them without having read what the image has; since version 1.1.
    pub written: u64,
}

impl Decode<Minor> for Skipped {
    fn decode<D: Decoder<Context = Minor>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let [not_in_image, layer_not_in_repository, unsupported] = <[u64; 3]>::decode(decoder)?;
        Ok(Self { not_in_image, layer_not_in_repository, unsupported, written: codec::added(decoder, 1)? })
    }
}

bincode::impl_borrow_decode_with_context!(Skipped, Minor);

impl Bundle {
    /// Reads a bundle's bytes and checks what the format promises.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BadFile> {
        let bundle: Self = FORMAT.unseal(bytes)?;
        if bundle.objects.len() > MAX_OBJECTS {
            let why = format!("{} objects, at most {MAX_OBJECTS} are allowed", bundle.objects.len());
            return Err(BadFile::Content { kind: FORMAT.name, why });
        }
        if !is_fqrn(&bundle.repository) {
            let why = format!("{:?} is not a repository name", bundle.repository);
            return Err(BadFile::Content { kind: FORMAT.name, why });
        }
        Ok(bundle)
    }

    /// The bytes of a bundle file.
    pub fn to_bytes(&self) -> Result<Vec<u8>, BadFile> {
        FORMAT.seal(self)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{ChainId, Digest};

    #[test]
    fn a_file_of_version_1_0_has_no_written_files() {
        let skipped = Skipped { not_in_image: 1, layer_not_in_repository: 2, unsupported: 3, written: 4 };
        let bundle = Bundle {
            image: ImageId { chain_id: ChainId(Digest::of(b"x")), manifest: None, reference: "r/i:t".into() },
            repository: "unpacked.example.org".into(),
            traces: 1,
            incomplete_traces: 0,
            objects: Vec::new(),
            skipped,
        };
        assert_eq!(Bundle::from_bytes(&bundle.to_bytes().unwrap()).unwrap(), bundle);
        let payload = FORMAT.encode(&bundle).unwrap();
        // The last byte is the count of written files.
        let old = Format { minor: 0, ..FORMAT }.wrap(&payload[..payload.len() - 1]);
        let expected = Bundle { skipped: Skipped { written: 0, ..skipped }, ..bundle };
        assert_eq!(Bundle::from_bytes(&old).unwrap(), expected);
    }
}
