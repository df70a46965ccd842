//! Building packs.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use futures::{StreamExt, TryStreamExt, stream};
use sha2::{Digest as _, Sha256};

use super::{FORMAT, Index, PackFile, PackPlan, PackedObject, file_name};
use crate::bundle::{Bundle, BundleObject, PackIndex, PackLocation, PackRef};
use crate::codec::FormatError;
use crate::cvmfs::{CvmfsError, Server};
use crate::file::{self, FileError};
use crate::image::Digest;
use crate::object::verify;

/// Number of objects fetched at the same time.
const REQUESTS: usize = 32;

/// Packs cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// An object cannot be fetched.
    #[error(transparent)]
    Cvmfs(#[from] CvmfsError),
    /// A pack file cannot be written or read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A pack would exceed the format's limits.
    #[error(transparent)]
    Bad(#[from] FormatError),
}

/// Builds the packs of a plan in `directory` and points the bundle's objects to them and to reused packs.
/// Returns the new files; the same objects make the same files.
pub async fn add_packs(
    bundle: &mut Bundle,
    plan: &PackPlan,
    published: &[PackFile],
    server: &Server,
    directory: &Path,
) -> Result<Vec<PathBuf>, PackError> {
    let mut files = Vec::new();
    let mut packs: Vec<(PackRef, Index)> =
        plan.reused.iter().filter_map(|position| published.get(*position)).map(PackFile::entry).collect();
    for pack in &plan.new {
        let objects: Vec<&BundleObject> = pack.iter().map(|index| bundle.object(*index)).collect();
        let (content, index) = fetch(&objects, server).await?;
        let digest = Digest::from_bytes(Sha256::digest(&content).into());
        let path = directory.join(file_name(&digest));
        packs.push((PackRef { digest, size: content.len() as u64 }, index));
        file::write(&path, Ok(content))?;
        files.push(path);
    }
    point_to(bundle, packs);
    Ok(files)
}

/// Fetches these objects and returns the bytes of a pack of them, and its index.
async fn fetch(objects: &[&BundleObject], server: &Server) -> Result<(Vec<u8>, Index), PackError> {
    let packed = |object: &&BundleObject| {
        let BundleObject { hash, kind, stored_size, raw_size, .. } = **object;
        PackedObject { hash, kind, offset: 0, stored_size, raw_size }
    };
    let packed: Vec<PackedObject> = objects.iter().map(packed).collect();
    let stored = stream::iter(objects.iter().map(|object| (object.hash, object.kind, object.stored_size)))
        .map(|(hash, kind, size)| async move {
            let stored = server.file(&hash.url_path(kind), size).await?;
            verify(&hash, &stored).map_err(CvmfsError::from)?;
            if stored.len() as u64 != size {
                let reason = format!("object {hash} has {} bytes on the server, the bundle says {size}", stored.len());
                return Err(PackError::Bad(FORMAT.content(reason)));
            }
            Ok(stored)
        })
        .buffered(REQUESTS);
    Ok(assemble(&packed, &stored.try_collect::<Vec<_>>().await?)?)
}

/// The bytes of a pack file with these objects, and its index; `stored` are their stored bytes. Offsets of
/// `objects` are ignored.
pub fn assemble<T: AsRef<[u8]>>(objects: &[PackedObject], stored: &[T]) -> Result<(Vec<u8>, Index), FormatError> {
    let (mut content, index) = Index::head(objects)?;
    stored.iter().for_each(|bytes| content.extend_from_slice(bytes.as_ref()));
    if content.len() as u64 == index.file_size() {
        Ok((content, index))
    } else {
        Err(FORMAT.content("the objects' sizes do not match their bytes"))
    }
}

/// Points each object of the bundle to its location in these packs. Packs are listed in the order in which they are first
/// needed, new ones and reused ones alike.
fn point_to(bundle: &mut Bundle, mut packs: Vec<(PackRef, Index)>) {
    let needed: HashMap<_, usize> =
        bundle.objects.iter().enumerate().map(|(index, object)| ((object.hash, object.kind), index)).collect();
    packs.sort_by_cached_key(|(reference, index)| {
        let first = index.objects().iter().filter_map(|object| needed.get(&(object.hash, object.kind))).min();
        (first.copied(), reference.digest)
    });
    let mut locations = HashMap::new();
    for (pack, (_, index)) in (0..).map(PackIndex::new).zip(&packs) {
        for object in index.objects() {
            let location = PackLocation { pack, offset: object.offset };
            locations.entry((object.hash, object.kind)).or_insert(location);
        }
    }
    for object in &mut bundle.objects {
        object.packed = locations.get(&(object.hash, object.kind)).copied();
    }
    bundle.packs = packs.into_iter().map(|(reference, _)| reference).collect();
}
