//! Pack files on this machine.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::{FORMAT, HEADER, Index, Packed, file_name};
use crate::bundle::PackRef;
use crate::file::FileError;
use crate::image::Digest;
use crate::object::verify;

/// A pack file, with its index read.
#[derive(Debug)]
pub struct PackFile {
    file: File,
    path: PathBuf,
    reference: PackRef,
    index: Index,
}

impl PackFile {
    /// Opens a pack and checks all of it: its index, its length, and that it is called by its checksum. Under another name it
    /// would never be used.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let io = |source| FileError::Io { path: path.to_owned(), source };
        let bad = |source| FileError::Bad { path: path.to_owned(), source };
        let mut file = File::open(path).map_err(io)?;
        let size = file.metadata().map_err(io)?.len();
        let mut head = Vec::new();
        file.by_ref().take(HEADER as u64).read_to_end(&mut head).map_err(io)?;
        let extent = Index::extent(&head).map_err(bad)?;
        file.by_ref().take((extent - HEADER) as u64).read_to_end(&mut head).map_err(io)?;
        let index = Index::from_bytes(&head).map_err(bad)?;
        if index.file_size() != size {
            let why = format!("its objects end at {}, the file at {size}", index.file_size());
            return Err(bad(FORMAT.content(why)));
        }
        let digest = digest_of(&head, &mut file).map_err(io)?;
        if path.file_name() != Some(OsStr::new(&file_name(&digest))) {
            return Err(bad(
                FORMAT.content(format!("its content makes its name {}; make it again", file_name(&digest)))
            ));
        }
        Ok(Self { file, path: path.to_owned(), reference: PackRef { digest, size }, index })
    }

    /// All packs in a directory and those below it; none if it is not there.
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

    /// All of `paths`.
    pub fn open_all(paths: &[PathBuf]) -> Result<Vec<Self>, FileError> {
        paths.iter().map(|path| Self::open(path)).collect()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it is called, and its bytes.
    pub fn reference(&self) -> &PackRef {
        &self.reference
    }

    /// What is in it.
    pub fn index(&self) -> &Index {
        &self.index
    }

    pub(super) fn entry(&self) -> (PackRef, Index) {
        (self.reference.clone(), self.index.clone())
    }

    /// The stored bytes of one object, verified.
    pub fn object(&self, object: &Packed) -> Result<Vec<u8>, FileError> {
        let mut stored = vec![0; object.stored_size as usize];
        let io = |source| FileError::Io { path: self.path.clone(), source };
        self.file.read_exact_at(&mut stored, object.offset).map_err(io)?;
        verify(&object.hash, &stored)
            .map_err(|e| FileError::Bad { path: self.path.clone(), source: FORMAT.content(e.to_string()) })?;
        Ok(stored)
    }
}

/// SHA-256 of what was read, and of the rest of the file.
fn digest_of(head: &[u8], rest: &mut File) -> std::io::Result<Digest> {
    let mut hasher = Sha256::new();
    hasher.update(head);
    std::io::copy(rest, &mut hasher)?;
    Ok(Digest::from_bytes(hasher.finalize().into()))
}
