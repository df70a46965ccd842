//! Finding the objects behind the files of the traces.

use std::collections::HashMap;

use super::layers::Found;
use super::repositories::Repositories;
use super::tree::Root;
use super::uses::{FileName, FileUsed, Uses};
use super::{BuildError, RUNTIME_READS};
use crate::bundle::Skipped;
use crate::cvmfs::{CatalogRef, Content};
use crate::object::{ContentHash, HashAlgorithm, ObjectKind};
use crate::path::RootPath;

/// The objects of all used files.
#[derive(Debug, Default)]
pub(super) struct Located {
    /// Names of the repositories; the first is the image's.
    pub(super) repositories: Vec<String>,
    pub(super) objects: Vec<LocatedObject>,
    pub(super) skipped: Skipped,
    pub(super) known: HashMap<(ContentHash, ObjectKind), usize>,
}

/// An object, and the files that lead to it.
#[derive(Debug)]
pub(super) struct LocatedObject {
    pub(super) hash: ContentHash,
    pub(super) kind: ObjectKind,
    pub(super) repository: u16,
    pub(super) raw_size: u64,
    pub(super) offset: u64,
    pub(super) path: RootPath,
    /// Every start needs it, whatever the traces say.
    pub(super) always: bool,
    /// The files, or parts of files, whose bytes it holds.
    pub(super) sources: Vec<Source>,
}

/// A part of a file of the traces.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source {
    /// Index of the file in [`Uses::files`].
    pub(super) file: usize,
    /// Start and end of its bytes in the file; `None` if every use of the file needs the object, whatever it
    /// reads.
    pub(super) part: Option<(u64, u64)>,
}

/// Finds the objects of all used files.
pub(super) async fn locate(
    uses: &Uses,
    root: &mut Root,
    repositories: &mut Repositories,
) -> Result<Located, BuildError> {
    let mut located = Located { repositories: repositories.names(), ..Located::default() };
    for catalog in root.catalogs() {
        located.add_catalog(&catalog);
    }
    for path in RUNTIME_READS {
        let path = RootPath::new(path).map_err(crate::cvmfs::CvmfsError::from)?;
        if let Found::File { path, size, content } = root.resolve(&mut repositories.image, &path).await? {
            located.add(None, 0, &path, size, &content);
        }
    }
    // In an order independent of the traces': the first file of an object gives it its path.
    let mut files: Vec<_> = uses.files.iter().zip(0..).collect();
    files.sort_unstable();
    for (name, file) in files {
        if uses.uses_of(file).is_empty() {
            located.skipped.written += 1;
            continue;
        }
        match name {
            FileName::Image(path) => match root.resolve(&mut repositories.image, path).await? {
                Found::File { path, size, content } => located.add(Some(file), 0, &path, size, &content),
                Found::NotInImage => located.skipped.not_in_image += 1,
                Found::LayerNotInRepository => located.skipped.layer_not_in_repository += 1,
            },
            FileName::Other(name, path) => match repositories.content(name, path).await? {
                Some((repository, size, content)) => located.add(Some(file), repository, path, size, &content),
                None => located.skipped.not_in_other_repository += 1,
            },
        }
    }
    Ok(located)
}

impl Source {
    /// Whether `used`, a use of the file, needs the object.
    pub(super) fn is_needed_by(&self, used: &FileUsed, uses: &Uses) -> bool {
        self.part.is_none_or(|(start, end)| uses.touches(used, start, end))
    }
}

impl Located {
    fn add_catalog(&mut self, catalog: &CatalogRef) {
        let CatalogRef { mountpoint, hash, raw_size } = catalog;
        let object = self.object(0, *hash, ObjectKind::Catalog, *raw_size, 0, mountpoint);
        object.always = true;
    }

    /// Adds the objects of a file; without an index in the traces, every start needs them.
    fn add(&mut self, file: Option<usize>, repository: u16, path: &RootPath, size: u64, content: &Content) {
        let whole;
        let (chunks, compressed, kind) = match content {
            Content::External => {
                self.skipped.external += 1;
                return;
            }
            Content::Whole { hash, compressed } => {
                whole = [crate::cvmfs::Chunk { offset: 0, size, hash: *hash }];
                (&whole[..], *compressed, ObjectKind::File)
            }
            Content::Chunks { chunks, compressed } => (&chunks[..], *compressed, ObjectKind::Chunk),
        };
        if !compressed {
            self.skipped.uncompressed += 1;
            return;
        }
        if chunks.iter().any(|chunk| chunk.hash.algorithm != HashAlgorithm::Sha1) {
            self.skipped.other_hash += 1;
            return;
        }
        for chunk in chunks {
            let object = self.object(repository, chunk.hash, kind, chunk.size, chunk.offset, path);
            // An open alone fetches a whole file, but no chunk.
            let part = (kind == ObjectKind::Chunk).then(|| (chunk.offset, chunk.offset.saturating_add(chunk.size)));
            match file {
                Some(file) => object.sources.push(Source { file, part }),
                None => object.always = true,
            }
        }
    }

    /// The object with that hash and kind, added if new.
    fn object(
        &mut self,
        repository: u16,
        hash: ContentHash,
        kind: ObjectKind,
        raw_size: u64,
        offset: u64,
        path: &RootPath,
    ) -> &mut LocatedObject {
        let next = self.objects.len();
        let index = *self.known.entry((hash, kind)).or_insert(next);
        if index == next {
            let (path, sources) = (path.clone(), Vec::new());
            self.objects.push(LocatedObject { hash, kind, repository, raw_size, offset, path, always: false, sources });
        }
        &mut self.objects[index]
    }
}
