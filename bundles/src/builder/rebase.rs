//! A bundle for another image, usually the next tag, from an old image's: what is at the same path is likely to be needed
//! in the same way.

use std::collections::HashSet;

use super::layers::Found;
use super::tree::{Root, Tree};
use super::{BuildError, Repositories, with_stored_sizes};
use crate::bundle::{Bundle, BundleObject, CarriedOver, Need, Share, Skipped};
use crate::cvmfs::{Content, CvmfsError};
use crate::image::registry::Image;
use crate::object::{HashAlgorithm, ObjectKind};
use crate::path::RootPath;

/// How sure a need still is when the content of its path has changed: in part. Applied again at each change.
const CHANGED: (u64, u64) = (4, 5);

/// Carries the objects of `old` over to `image`.
pub async fn rebase(old: &Bundle, image: &Image, repositories: &mut Repositories) -> Result<Bundle, BuildError> {
    let mut root = Root::find(&Tree::Layers, image, &mut repositories.image).await?;
    let from = CarriedOver { from: old.image.clone(), same: 0, changed: 0, gone: 0 };
    let mut carried = Carried { over: from, objects: Vec::new(), known: HashSet::new(), skipped: Skipped::default() };
    let names = repositories.names();
    for catalog in root.catalogs() {
        let (hash, size, path) = (catalog.hash, catalog.raw_size, catalog.mountpoint.clone());
        let object = BundleObject { kind: ObjectKind::Catalog, ..BundleObject::file(hash, size, path) };
        carried.push(BundleObject { need: Need::always(old.traces), ..object });
    }
    for object in old.objects.iter().filter(|object| object.kind != ObjectKind::Catalog) {
        let name = old.repository_of(object);
        match locate(object, name, &mut root, repositories).await? {
            Now::At(repository, path, size, content) => carried.add(object, repository, &path, size, &content),
            Now::Gone => carried.over.gone += 1,
            Now::Unknown => carried.skipped.not_in_other_repository += 1,
        }
    }
    let Carried { over, objects, skipped, .. } = carried;
    let mut objects = with_stored_sizes(objects, repositories).await?;
    objects.sort_by(super::choose::order);
    let paths = objects.iter().map(|object| (object.repository, object.path.clone()));
    let catalogs = repositories.catalogs(paths).await?;
    let layers = super::marks::of_layers(&root, &mut repositories.image).await?;
    Ok(Bundle {
        repositories: names,
        traces: old.traces,
        incomplete_traces: old.incomplete_traces,
        objects,
        profiles: old.profiles.clone(),
        catalogs,
        carried: Some(over),
        layers,
        skipped,
        ..Bundle::of(image.id.clone(), "")
    })
}

/// What is at an old object's path now.
enum Now {
    At(u16, RootPath, u64, Content),
    Gone,
    /// Nobody could be asked.
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
    over: CarriedOver,
    objects: Vec<BundleObject>,
    known: HashSet<(crate::object::ContentHash, ObjectKind)>,
    skipped: Skipped,
}

impl Carried {
    /// Adds what is now behind the path of `old`.
    fn add(&mut self, old: &BundleObject, repository: u16, path: &RootPath, size: u64, content: &Content) {
        let (pieces, kind, compressed) = match content {
            Content::External => {
                self.skipped.external += 1;
                return;
            }
            Content::Whole { hash, compressed } => (vec![(*hash, size, 0)], ObjectKind::File, *compressed),
            Content::Chunks { chunks, compressed } => {
                let all = chunks.iter().map(|chunk| (chunk.hash, chunk.size, chunk.offset));
                let all: Vec<_> = match chunks.iter().any(|chunk| chunk.hash == old.hash) {
                    true => all.filter(|(hash, ..)| *hash == old.hash).collect(),
                    // Of another content, what is where the old chunk began; of what was one object before, all.
                    false if old.kind == ObjectKind::Chunk => all
                        .filter(|(_, size, offset)| (*offset..offset.saturating_add(*size)).contains(&old.offset))
                        .collect(),
                    false => all.collect(),
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
            [] => self.over.gone += 1,
            [(hash, ..)] if *hash == old.hash => self.over.same += 1,
            _ => self.over.changed += 1,
        }
        for (hash, raw_size, offset) in pieces {
            let need = match hash == old.hash {
                true => old.need,
                false => less_sure(old.need),
            };
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

fn less_sure(need: Need) -> Need {
    Need { confidence: need.confidence.times(Share::of(CHANGED.0, CHANGED.1)), ..need }
}
