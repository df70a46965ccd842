//! From traces to a bundle.
//!
//! 1. [`merge`] puts the files of all traces into one list, in order of their earliest first use.
//! 2. [`layers`] finds for each path the topmost layer that holds it, in the repository's catalogs.
//! 3. Here, the objects behind those files follow each other, each once, behind the catalogs that lead to them.

mod layers;
mod merge;

use std::collections::HashSet;

use futures::{StreamExt, TryStreamExt, stream};

use crate::bundle::{Bundle, BundleObject, MAX_OBJECTS, Skipped};
use crate::cvmfs::{Content, CvmfsError, Repository};
use crate::image::registry::Image;
use crate::object::{ContentHash, HashAlgorithm, ObjectKind};
use crate::path::RootPath;
use crate::trace::Trace;

use layers::{Found, Layers};
use merge::MergedFile;

/// What containerd itself reads of an image's root file system at every CreateContainer, to find the container's user
/// and groups, before anything runs that a recorder could follow. Source: `oci.WithUser` and `oci.WithAdditionalGIDs`.
const RUNTIME_READS: [&str; 2] = ["/etc/passwd", "/etc/group"];

/// How many objects' sizes are asked for at a time.
const SIZE_REQUESTS: usize = 32;

/// Why a bundle cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// There is nothing to build from.
    #[error("no trace was given: record one with `cvmfs-prefetch record`")]
    NoTraces,
    /// A trace of something else.
    #[error(
        "a trace is of {found} ({reference}), the image is {expected}: record the image again, or name the right one"
    )]
    OtherImage {
        /// Chain ID in the trace.
        found: String,
        /// Reference in the trace.
        reference: String,
        /// Chain ID of the image.
        expected: String,
    },
    /// No layer of the image is published.
    #[error("repository {repository} has no layer of {image}: publish the image there first")]
    NotInRepository {
        /// The repository.
        repository: String,
        /// The image.
        image: String,
    },
    /// More than a bundle may hold.
    #[error("the traces lead to {0} objects, a bundle holds at most {MAX_OBJECTS}")]
    TooLarge(usize),
    /// The repository cannot be read.
    #[error(transparent)]
    Cvmfs(#[from] CvmfsError),
}

/// Makes a bundle for `image` out of `traces`, with the objects that `repository` has for it.
pub async fn build(image: &Image, traces: &[Trace], repository: &mut Repository) -> Result<Bundle, BuildError> {
    if traces.is_empty() {
        return Err(BuildError::NoTraces);
    }
    if let Some(trace) = traces.iter().find(|t| t.image.chain_id != image.id.chain_id) {
        return Err(BuildError::OtherImage {
            found: trace.image.chain_id.to_string(),
            reference: trace.image.reference.clone(),
            expected: image.id.chain_id.to_string(),
        });
    }
    let mut layers = Layers::find(repository, &image.layers).await?;
    if layers.published() == 0 {
        return Err(BuildError::NotInRepository {
            repository: repository.manifest().repository.clone(),
            image: image.id.reference.clone(),
        });
    }
    let mut list = ObjectList::default();
    for catalog in layers.catalogs() {
        list.add(catalog.hash, ObjectKind::Catalog, catalog.raw_size, traces.len() as u32, 0, &catalog.mountpoint);
    }
    let mut files = merge::merge(traces);
    for path in RUNTIME_READS {
        let path = RootPath::new(path).map_err(CvmfsError::from)?;
        files.retain(|file| file.path != path);
        files.insert(0, MergedFile { path, used_in: traces.len() as u32, at_us: 0 });
    }
    for file in files {
        if file.used_in == 0 {
            list.skipped.written += 1;
            continue;
        }
        match layers.resolve(repository, &file.path).await? {
            Found::File { path, size, content } => list.add_file(&file, &path, size, &content),
            Found::NotInImage if RUNTIME_READS.iter().any(|path| path.as_bytes() == file.path.as_bytes()) => {}
            Found::NotInImage => list.skipped.not_in_image += 1,
            Found::LayerNotInRepository => list.skipped.layer_not_in_repository += 1,
        }
    }
    if list.objects.len() > MAX_OBJECTS {
        return Err(BuildError::TooLarge(list.objects.len()));
    }
    Ok(Bundle {
        image: image.id.clone(),
        repository: repository.manifest().repository.clone(),
        traces: traces.len() as u32,
        incomplete_traces: traces.iter().filter(|t| !t.is_complete()).count() as u32,
        objects: with_stored_sizes(list.objects, repository).await?,
        skipped: list.skipped,
    })
}

#[derive(Default)]
struct ObjectList {
    objects: Vec<BundleObject>,
    known: HashSet<(ContentHash, ObjectKind)>,
    skipped: Skipped,
}

impl ObjectList {
    fn add_file(&mut self, file: &MergedFile, path: &RootPath, size: u64, content: &Content) {
        match content {
            Content::Whole { hash, compressed: true } if hash.algorithm == HashAlgorithm::Sha1 => {
                self.add(*hash, ObjectKind::File, size, file.used_in, file.at_us, path);
            }
            Content::Chunks { chunks, compressed: true }
                if chunks.iter().all(|c| c.hash.algorithm == HashAlgorithm::Sha1) =>
            {
                for chunk in chunks {
                    self.add(chunk.hash, ObjectKind::Chunk, chunk.size, file.used_in, file.at_us, path);
                }
            }
            _ => self.skipped.unsupported += 1,
        }
    }

    fn add(&mut self, hash: ContentHash, kind: ObjectKind, raw_size: u64, used_in: u32, at_us: u64, path: &RootPath) {
        if self.known.insert((hash, kind)) {
            let path = path.clone();
            self.objects.push(BundleObject { hash, kind, stored_size: 0, raw_size, used_in, at_us, path });
        }
    }
}

/// Asks the server for the size of every object, which also shows that it has them all.
async fn with_stored_sizes(
    objects: Vec<BundleObject>,
    repository: &Repository,
) -> Result<Vec<BundleObject>, CvmfsError> {
    let server = repository.server();
    stream::iter(objects)
        .map(|mut object| async move {
            object.stored_size = server.stored_size(&object.hash, object.kind).await?;
            Ok(object)
        })
        .buffered(SIZE_REQUESTS)
        .try_collect()
        .await
}
