//! Publishing into a tar file, for `cvmfs_server ingest`.
//!
//! The same bundle and packs give the same bytes: entries are sorted, owned by root, and dated 1970.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tar::{Builder, EntryType, Header};

use super::{Content, Entry, PublishError, entries};
use crate::bundle::Bundle;
use crate::file::{self, FileError};
use crate::pack::PackFile;

/// Writes the tree of `bundle` and `packs` as the tar file `path`, completely or not at all.
pub fn tarball(bundle: &Bundle, path: &Path, packs: &[PathBuf]) -> Result<(), PublishError> {
    let packs = PackFile::open_all(packs)?;
    let mut entries = entries(bundle, &packs)?;
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    let filled = file::replace(path, |file| fill(file, &entries));
    Ok(filled.map_err(|source| FileError::Io { path: path.to_owned(), source })?)
}

fn fill(file: &mut File, entries: &[Entry<'_>]) -> io::Result<()> {
    let mut tar = Builder::new(io::BufWriter::new(file));
    let mut directories = BTreeSet::new();
    for entry in entries {
        // A directory sorts before its content, so directories are written with their first entry.
        let parents: Vec<&Path> = Path::new(&entry.path).ancestors().skip(1).collect();
        for parent in parents.into_iter().rev().filter(|parent| !parent.as_os_str().is_empty()) {
            if directories.insert(parent.to_owned()) {
                tar.append_data(&mut header(EntryType::Directory, 0o755, 0), parent, io::empty())?;
            }
        }
        match &entry.content {
            Content::Bytes(bytes) => {
                let mut header = header(EntryType::Regular, 0o644, bytes.len() as u64);
                tar.append_data(&mut header, &entry.path, bytes.as_slice())?;
            }
            Content::Pack(pack) => {
                let mut header = header(EntryType::Regular, 0o644, pack.reference().size);
                tar.append_data(&mut header, &entry.path, File::open(pack.path())?)?;
            }
            Content::Link(target) => {
                tar.append_link(&mut header(EntryType::Symlink, 0o777, 0), &entry.path, target)?;
            }
        }
    }
    tar.into_inner()?.flush()
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}
