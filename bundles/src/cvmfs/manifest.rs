//! `.cvmfspublished`: the signed entry point of a revision. Source: `cvmfs/manifest.cc`.

use super::CvmfsError;
use super::signed::SignedText;
use crate::object::ContentHash;

const FILE: &str = ".cvmfspublished";

/// The fields of a manifest that we use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// `C`: hash of the root catalog.
    pub root_catalog: ContentHash,
    /// `B`: size of the root catalog, decompressed.
    pub root_catalog_size: u64,
    /// `N`: the repository's fully qualified name.
    pub repository: String,
    /// `S`: revision number.
    pub revision: u64,
    /// `X`: hash of the certificate whose key signed this manifest.
    pub certificate: ContentHash,
    /// `T`: time of publication in seconds since 1970.
    pub published: u64,
}

impl Manifest {
    /// Parses the lines of a signed text: a key letter, then the value. Unknown letters are ignored.
    pub fn parse(signed: &SignedText<'_>) -> Result<Self, CvmfsError> {
        let value = |key: char| signed.text.lines().find_map(|line| line.strip_prefix(key));
        let need = |key: char| {
            value(key).ok_or_else(|| CvmfsError::Malformed { file: FILE, reason: format!("it has no line `{key}`") })
        };
        let number = |key: char| {
            need(key)?
                .parse::<u64>()
                .map_err(|_| CvmfsError::Malformed { file: FILE, reason: format!("its line `{key}` is not a number") })
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
