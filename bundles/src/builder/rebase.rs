//! Rebasing a bundle to another image, usually the next tag: what is at the same path is likely to be needed
//! in the same way.

use std::collections::HashSet;

use super::layers::Found;
use super::tree::{Root, Tree};
use super::{BuildError, Repositories, with_stored_sizes};
use crate::bundle::{Bundle, BundleObject, Need, Rebased, Share, Skipped};
use crate::cvmfs::{Content, CvmfsError};
use crate::object::{HashAlgorithm, ObjectKind};
use crate::path::RootPath;
use crate::registry::Image;

/// Factor of the confidence when the content of a path has changed. It applies again at each change.
const CHANGED: (u64, u64) = (4, 5);

/// Builds a bundle for `image` with the objects that are at the paths of the objects of `old`.
pub async fn rebase(old: &Bundle, image: &Image, repositories: &mut Repositories) -> Result<Bundle, BuildError> {
    let mut root = Root::find(&Tree::Layers, image, &mut repositories.image).await?;
    let from = Rebased { from: old.image.clone(), unchanged: 0, changed: 0, removed: 0 };
    let mut rebased = Carried { over: from, objects: Vec::new(), known: HashSet::new(), skipped: Skipped::default() };
    let names = repositories.names();
    for catalog in root.catalogs() {
        let (hash, size, path) = (catalog.hash, catalog.raw_size, catalog.mountpoint.clone());
        let object = BundleObject { kind: ObjectKind::Catalog, ..BundleObject::file(hash, size, path) };
        rebased.push(BundleObject { need: Need::always(old.traces), ..object });
    }
    for object in old.objects.iter().filter(|object| object.kind != ObjectKind::Catalog) {
        let name = old.repository_of(object);
        match locate(object, name, &mut root, repositories).await? {
            Now::At(repository, path, size, content) => rebased.add(object, repository, &path, size, &content),
            Now::Gone => rebased.over.removed += 1,
            Now::Unknown => rebased.skipped.not_in_other_repository += 1,
        }
    }
    let Carried { over, objects, skipped, .. } = rebased;
    let mut objects = with_stored_sizes(objects, repositories).await?;
    objects.sort_by(super::select::order);
    let paths = objects.iter().map(|object| (object.repository, object.path.clone()));
    let catalogs = repositories.catalogs(paths).await?;
    let layers = super::whiteouts::of_layers(&root, &mut repositories.image).await?;
    Ok(Bundle {
        repositories: names,
        traces: old.traces,
        incomplete_traces: old.incomplete_traces,
        objects,
        profiles: old.profiles.clone(),
        catalogs,
        rebased: Some(over),
        layers,
        skipped,
        ..Bundle::new(image.id.clone(), "")
    })
}

/// What is at an old object's path in the new image.
enum Now {
    At(u16, RootPath, u64, Content),
    Gone,
    /// The repository is not available.
    Unknown,
}

async fn locate(
    object: &BundleObject,
    name: &str,
    root: &mut Root,
    repositories: &mut Repositories,
) -> Result<Now, CvmfsError> {
    if let Some(path) = object.container_path() {
        return Ok(match root.resolve(&mut repositories.image, &path).await? {
            Found::File { path, size, content } => Now::At(0, path, size, content),
            Found::NotInImage => Now::Gone,
            Found::LayerNotInRepository => Now::Unknown,
        });
    }
    if !repositories.names().iter().any(|known| known == name) {
        return Ok(Now::Unknown);
    }
    let found = repositories.content(name, &object.path).await?;
    Ok(found.map_or(Now::Gone, |(place, size, content)| Now::At(place, object.path.clone(), size, content)))
}

struct Carried {
    over: Rebased,
    objects: Vec<BundleObject>,
    known: HashSet<(crate::object::ContentHash, ObjectKind)>,
    skipped: Skipped,
}

impl Carried {
    /// Adds what is now at the path of `old`.
    fn add(&mut self, old: &BundleObject, repository: u16, path: &RootPath, size: u64, content: &Content) {
        let (pieces, kind, compressed) = match content {
            Content::External => {
                self.skipped.external += 1;
                return;
            }
            Content::Whole { hash, compressed } => (vec![(*hash, size, 0)], ObjectKind::File, *compressed),
            Content::Chunks { chunks, compressed } => {
                let all = chunks.iter().map(|chunk| (chunk.hash, chunk.size, chunk.offset));
                let all: Vec<_> = if chunks.iter().any(|chunk| chunk.hash == old.hash) {
                    all.filter(|(hash, ..)| *hash == old.hash).collect()
                } else if old.kind == ObjectKind::Chunk {
                    // If the content changed: the chunk at the old chunk's offset; all chunks if it was one
                    // object before.
                    all.filter(|(_, size, offset)| (*offset..offset.saturating_add(*size)).contains(&old.offset))
                        .collect()
                } else {
                    all.collect()
                };
                (all, ObjectKind::Chunk, *compressed)
            }
        };
        if !compressed {
            self.skipped.uncompressed += 1;
            return;
        }
        if pieces.iter().any(|(hash, ..)| hash.algorithm != HashAlgorithm::Sha1) {
            self.skipped.other_hash += 1;
            return;
        }
        match pieces.as_slice() {
            [] => self.over.removed += 1,
            [(hash, ..)] if *hash == old.hash => self.over.unchanged += 1,
            _ => self.over.changed += 1,
        }
        for (hash, raw_size, offset) in pieces {
            let need = if hash == old.hash { old.need } else { less_confident(old.need) };
            let object = BundleObject::file(hash, raw_size, path.clone());
            self.push(BundleObject { kind, repository, offset, need, ..object });
        }
    }

    fn push(&mut self, object: BundleObject) {
        if self.known.insert((object.hash, object.kind)) {
            self.objects.push(object);
        }
    }
}

fn less_confident(need: Need) -> Need {
    Need { confidence: need.confidence.times(Share::ratio(CHANGED.0, CHANGED.1)), ..need }
}
