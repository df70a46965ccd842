//! Pack files on this machine.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::{FORMAT, HEADER, Index, PackedObject, file_name};
use crate::bundle::PackRef;
use crate::file::FileError;
use crate::image::Digest;
use crate::object::verify;

/// A pack file, opened and checked.
#[derive(Debug)]
pub struct PackFile {
    file: File,
    path: PathBuf,
    reference: PackRef,
    index: Index,
}

impl PackFile {
    /// Opens a pack and checks its index, its length, and that its name is its checksum. Under another name
    /// it would never be used.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let io = |source| FileError::Io { path: path.to_owned(), source };
        let bad = |source| FileError::Format { path: path.to_owned(), source };
        let mut file = File::open(path).map_err(io)?;
        let size = file.metadata().map_err(io)?.len();
        let mut head = Vec::new();
        file.by_ref().take(HEADER as u64).read_to_end(&mut head).map_err(io)?;
        let extent = Index::extent(&head).map_err(bad)?;
        file.by_ref().take((extent - HEADER) as u64).read_to_end(&mut head).map_err(io)?;
        let index = Index::from_bytes(&head).map_err(bad)?;
        if index.file_size() != size {
            let reason = format!("its objects end at {}, but the file has {size} bytes", index.file_size());
            return Err(bad(FORMAT.content(reason)));
        }
        let digest = digest_of(&head, &mut file).map_err(io)?;
        if path.file_name() != Some(OsStr::new(&file_name(&digest))) {
            return Err(bad(FORMAT.content(format!(
                "its name must be {}, the checksum of its content; build it again",
                file_name(&digest)
            ))));
        }
        Ok(Self { file, path: path.to_owned(), reference: PackRef { digest, size }, index })
    }

    /// Opens all packs in a directory and below it, sorted by digest; none if the directory does not exist.
    pub fn all_below(directory: &Path) -> Result<Vec<Self>, FileError> {
        let io = |source| FileError::Io { path: directory.to_owned(), source };
        let entries = match std::fs::read_dir(directory) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(io)?,
        };
        let mut packs = Vec::new();
        for entry in entries {
            let entry = entry.map_err(io)?;
            let (path, kind) = (entry.path(), entry.file_type().map_err(io)?);
            if kind.is_dir() {
                packs.extend(Self::all_below(&path)?);
            } else if path.extension().is_some_and(|extension| extension == "pack") {
                packs.push(Self::open(&path)?);
            }
        }
        packs.sort_by_key(|pack| pack.reference.digest);
        Ok(packs)
    }

    /// Opens all packs in `paths`.
    pub fn open_all(paths: &[PathBuf]) -> Result<Vec<Self>, FileError> {
        paths.iter().map(|path| Self::open(path)).collect()
    }

    /// Path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Digest and size.
    pub fn reference(&self) -> &PackRef {
        &self.reference
    }

    /// The objects in the pack.
    pub fn index(&self) -> &Index {
        &self.index
    }

    pub(super) fn entry(&self) -> (PackRef, Index) {
        (self.reference.clone(), self.index.clone())
    }

    /// Reads the stored bytes of one object and verifies them.
    pub fn object(&self, object: &PackedObject) -> Result<Vec<u8>, FileError> {
        let mut stored = vec![0; object.stored_size as usize];
        let io = |source| FileError::Io { path: self.path.clone(), source };
        self.file.read_exact_at(&mut stored, object.offset).map_err(io)?;
        verify(&object.hash, &stored)
            .map_err(|e| FileError::Format { path: self.path.clone(), source: FORMAT.content(e.to_string()) })?;
        Ok(stored)
    }
}

/// SHA-256 of the bytes read so far and of the rest of the file.
fn digest_of(head: &[u8], rest: &mut File) -> std::io::Result<Digest> {
    let mut hasher = Sha256::new();
    hasher.update(head);
    std::io::copy(rest, &mut hasher)?;
    Ok(Digest::from_bytes(hasher.finalize().into()))
}
