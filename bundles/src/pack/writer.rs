//! Making packs.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use futures::{StreamExt, TryStreamExt, stream};
use sha2::{Digest as _, Sha256};

use super::{FORMAT, Index, PackFile, PackPlan, Packed};
use crate::bundle::{Bundle, BundleObject, PackRef, Packed as Place};
use crate::codec::BadFile;
use crate::cvmfs::{CvmfsError, Server};
use crate::file::{self, FileError};
use crate::image::Digest;
use crate::object::verify;

/// How many objects are asked for at a time.
const REQUESTS: usize = 32;

/// Why packs cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// An object cannot be had.
    #[error(transparent)]
    Cvmfs(#[from] CvmfsError),
    /// A pack cannot be written or read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A pack would break the format's limits.
    #[error(transparent)]
    Bad(#[from] BadFile),
}

/// What a pack file is called.
pub fn file_name(digest: &Digest) -> String {
    format!("{}.pack", digest.hex())
}

/// Makes the packs of a plan in `directory`, and points the bundle's objects to them and to those that are used again. The
/// same objects make the same files. Returns the new files.
pub async fn add_packs(
    bundle: &mut Bundle,
    plan: &PackPlan,
    published: &[PackFile],
    server: &Server,
    directory: &Path,
) -> Result<Vec<PathBuf>, PackError> {
    let mut files = Vec::new();
    let mut packs: Vec<(PackRef, Index)> =
        plan.reused.iter().filter_map(|place| published.get(*place)).map(PackFile::entry).collect();
    for places in &plan.new {
        let objects: Vec<&BundleObject> = places.iter().filter_map(|place| bundle.objects.get(*place)).collect();
        let (content, index) = pack(&objects, server).await?;
        let digest = Digest::from_bytes(Sha256::digest(&content).into());
        let path = directory.join(file_name(&digest));
        packs.push((PackRef { digest, size: content.len() as u64 }, index));
        file::write(&path, Ok(content))?;
        files.push(path);
    }
    point(bundle, packs);
    Ok(files)
}

/// The bytes of a pack with these objects, and its index.
async fn pack(objects: &[&BundleObject], server: &Server) -> Result<(Vec<u8>, Index), PackError> {
    let packed = |object: &&BundleObject| {
        let BundleObject { hash, kind, stored_size, raw_size, .. } = **object;
        Packed { hash, kind, offset: 0, stored_size, raw_size }
    };
    let packed: Vec<Packed> = objects.iter().map(packed).collect();
    let stored = stream::iter(objects.iter().map(|object| (object.hash, object.kind, object.stored_size)))
        .map(|(hash, kind, size)| async move {
            let stored = server.file(&hash.url_path(kind), size).await?;
            verify(&hash, &stored).map_err(CvmfsError::from)?;
            if stored.len() as u64 != size {
                let why = format!("object {hash} has {} bytes on the server, the bundle says {size}", stored.len());
                return Err(PackError::Bad(FORMAT.content(why)));
            }
            Ok(stored)
        })
        .buffered(REQUESTS);
    Ok(assemble(&packed, &stored.try_collect::<Vec<_>>().await?)?)
}

/// The bytes of a pack file with these objects, and its index; `stored` are their bytes. Offsets do not matter.
pub fn assemble<T: AsRef<[u8]>>(objects: &[Packed], stored: &[T]) -> Result<(Vec<u8>, Index), BadFile> {
    let (mut content, index) = Index::head(objects)?;
    stored.iter().for_each(|bytes| content.extend_from_slice(bytes.as_ref()));
    match content.len() as u64 == index.file_size() {
        true => Ok((content, index)),
        false => Err(FORMAT.content("its objects have other sizes than their bytes")),
    }
}

/// Tells each object of the bundle where in these packs it is. Packs are in the order in which they are first needed, whether
/// they are new or not.
fn point(bundle: &mut Bundle, mut packs: Vec<(PackRef, Index)>) {
    let names = bundle.objects.iter().enumerate().map(|(place, object)| ((object.hash, object.kind), place));
    let needed: HashMap<_, usize> = names.collect();
    packs.sort_by_cached_key(|(reference, index)| {
        let first = index.objects().iter().filter_map(|object| needed.get(&(object.hash, object.kind))).min();
        (first.copied(), reference.digest)
    });
    let mut places = HashMap::new();
    for (pack, (_, index)) in packs.iter().enumerate() {
        for object in index.objects() {
            let place = Place { pack: pack as u16, offset: object.offset };
            places.entry((object.hash, object.kind)).or_insert(place);
        }
    }
    for object in &mut bundle.objects {
        object.packed = places.get(&(object.hash, object.kind)).copied();
    }
    bundle.packs = packs.into_iter().map(|(reference, _)| reference).collect();
}
