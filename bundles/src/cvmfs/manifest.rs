//! `.cvmfspublished`: the signed entry point of one revision. Source: `cvmfs/manifest.cc`.

use super::CvmfsError;
use super::signed::SignedText;
use crate::object::ContentHash;

const FILE: &str = ".cvmfspublished";

/// What we use of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// `C`: the root catalog.
    pub root_catalog: ContentHash,
    /// `B`: its size, decompressed.
    pub root_catalog_size: u64,
    /// `N`: the repository's fully qualified name.
    pub repository: String,
    /// `S`: the revision.
    pub revision: u64,
    /// `X`: the certificate whose key signed this manifest.
    pub certificate: ContentHash,
    /// `T`: when it was published, seconds since 1970.
    pub published: u64,
}

impl Manifest {
    /// Parses the lines of a signed text: a key letter, then the value. Unknown letters are ignored.
    pub fn parse(signed: &SignedText<'_>) -> Result<Self, CvmfsError> {
        let value = |key: char| signed.text.lines().find_map(|line| line.strip_prefix(key));
        let need = |key: char| {
            value(key).ok_or_else(|| CvmfsError::Malformed { file: FILE, why: format!("it has no line `{key}`") })
        };
        let number = |key: char| {
            need(key)?
                .parse::<u64>()
                .map_err(|_| CvmfsError::Malformed { file: FILE, why: format!("its line `{key}` is not a number") })
        };
        Ok(Self {
            root_catalog: need('C')?.parse()?,
            root_catalog_size: number('B')?,
            repository: need('N')?.to_owned(),
            revision: number('S')?,
            certificate: need('X')?.parse()?,
            published: number('T')?,
        })
    }
}
