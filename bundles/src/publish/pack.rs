//! Pack files that are published with a bundle.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::PublishError;
use crate::file::FileError;
use crate::image::Digest;

/// A file `<64 hex of its SHA-256>.pack` whose content has that checksum.
#[derive(Debug)]
pub struct PackFile {
    path: PathBuf,
    digest: Digest,
    size: u64,
}

impl PackFile {
    /// Reads the file once, to compare its content with its name: a pack under a wrong name would never be used.
    pub fn check(path: &Path) -> Result<Self, PublishError> {
        let bad = |why: String| PublishError::Pack { path: path.to_owned(), why };
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".pack"));
        let named: Digest = name
            .and_then(|hex| format!("sha256:{hex}").parse().ok())
            .ok_or_else(|| bad("its name is not <64 hex digits of its SHA-256>.pack".to_owned()))?;
        let (digest, size) = checksum(path).map_err(|source| FileError::Io { path: path.to_owned(), source })?;
        if digest != named {
            return Err(bad(format!("its content has the SHA-256 {}; make it again", digest.hex())));
        }
        Ok(Self { path: path.to_owned(), digest, size })
    }

    /// All of `paths`.
    pub fn check_all(paths: &[PathBuf]) -> Result<Vec<Self>, PublishError> {
        paths.iter().map(|path| Self::check(path)).collect()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its SHA-256.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Its bytes.
    pub fn size(&self) -> u64 {
        self.size
    }
}

fn checksum(path: &Path) -> io::Result<(Digest, u64)> {
    let (mut file, mut hasher, mut size) = (File::open(path)?, Sha256::new(), 0);
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((Digest::from_bytes(hasher.finalize().into()), size)),
            read => {
                hasher.update(&buffer[..read]);
                size += read as u64;
            }
        }
    }
}
