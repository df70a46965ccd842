//! Locations of packs in a repository: looked up once through its mount, then remembered.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bundles::attribute::attribute;
use bundles::bundle::PackRef;
use bundles::cvmfs::{Content, content_of};
use bundles::image::Digest;
use bundles::layout::pack_path;
use bundles::object::ObjectKind;
use bundles::pack::{PackPart as Part, PublishedPack as Pack};
use node::below::{Links, resolve};
use node::mount::MountError;
use parking_lot::{Mutex, MutexGuard};
use tracing::debug;

/// Maximum number of packs that are remembered.
const MAX_KNOWN: usize = 4096;

/// Packs that were looked up. A pack is named by its checksum and does not change; a missing pack may be published later.
#[derive(Debug, Default)]
pub(super) struct Packs {
    known: Mutex<HashMap<Digest, Known>>,
}

#[derive(Debug, Clone)]
struct Known {
    pack: Option<Arc<Pack>>,
    since: Instant,
}

impl Packs {
    /// The locations of `packs` as far as they are known, and the packs that must be looked up.
    pub(super) fn known(&self, packs: &[PackRef], absent_for: Duration) -> (Vec<Option<Arc<Pack>>>, Vec<PackRef>) {
        let known = self.lock();
        let (mut found, mut unknown) = (Vec::new(), Vec::new());
        for pack in packs {
            let known = known.get(&pack.digest).filter(|k| k.pack.is_some() || k.since.elapsed() < absent_for);
            found.push(known.and_then(|known| known.pack.clone()));
            if known.is_none() {
                unknown.push(pack.clone());
            }
        }
        (found, unknown)
    }

    pub(super) fn remember(&self, digest: Digest, pack: Option<Arc<Pack>>) {
        let mut known = self.lock();
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(digest, Known { pack, since: Instant::now() });
    }

    /// Adds locations from the store.
    pub(super) fn remember_places(&self, places: Vec<(Digest, Pack)>) {
        for (digest, pack) in places {
            if self.lock().get(&digest).is_none_or(|known| known.pack.is_none()) {
                self.remember(digest, Some(Arc::new(pack)));
            }
        }
    }

    pub(super) fn forget(&self, digest: &Digest) {
        self.lock().remove(digest);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, Known>> {
        self.known.lock()
    }
}

/// Why a pack cannot be located.
#[derive(Debug, thiserror::Error)]
pub(super) enum PackLookupError {
    /// The mount did not answer.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// Nothing is mounted.
    #[error("no CVMFS client is mounted at {}", .0.display())]
    NotMounted(PathBuf),
    /// The file cannot be opened, or its attributes are not those of a file in a mounted repository.
    #[error("{path}: {reason}")]
    File { path: String, reason: String },
    /// The file is not the pack that the bundle refers to.
    #[error("{path} has {found} bytes, its bundle says {expected}")]
    Size { path: String, found: u64, expected: u64 },
}

/// Whether an error means that there is no such file.
pub(super) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Looks up the objects that `packs` consist of; `None` for packs that are missing or other files. Blocks.
pub(super) fn locate(mount: &Path, packs: &[PackRef]) -> Result<Vec<Option<Pack>>, PackLookupError> {
    // What is missing now, and what is not there because nothing is mounted, are not the same.
    if !matches!(attribute(mount, "user.fqrn"), Ok(Some(_))) {
        return Err(PackLookupError::NotMounted(mount.to_owned()));
    }
    let locate = |pack| {
        locate_one(mount, pack).unwrap_or_else(|error| {
            debug!(%error, "cannot locate a pack");
            None
        })
    };
    Ok(packs.iter().map(locate).collect())
}

fn locate_one(mount: &Path, pack: &PackRef) -> Result<Option<Pack>, PackLookupError> {
    let path = pack_path(&pack.digest);
    // Not by its path: a link in it could lead to a file of another repository, or out of all of them.
    let file = match resolve(mount, Path::new(&path), Links::Inside) {
        Err(error) if is_absent(&error) => return Ok(None),
        found => found.map_err(|error| PackLookupError::File { path: path.clone(), reason: error.to_string() })?,
    };
    if !file.metadata().is_file() {
        return Err(PackLookupError::File { path, reason: "not a regular file".into() });
    }
    let size = file.metadata().len();
    if size != pack.size {
        return Err(PackLookupError::Size { path, found: size, expected: pack.size });
    }
    let content = content_of(&file.path(), size)
        .map_err(|error| PackLookupError::File { path: path.clone(), reason: error.to_string() })?;
    Ok(match content {
        Content::Whole { hash, compressed } => {
            Some(Pack { parts: vec![Part { hash, kind: ObjectKind::File, start: 0, raw_size: size, compressed }] })
        }
        Content::Chunks { chunks, compressed } => {
            let part = |chunk: &bundles::cvmfs::Chunk| Part {
                hash: chunk.hash,
                kind: ObjectKind::Chunk,
                start: chunk.offset,
                raw_size: chunk.size,
                compressed,
            };
            Some(Pack { parts: chunks.iter().map(part).collect() })
        }
        // Not one of the repository's objects.
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn found_packs_are_known_for_good_and_missing_ones_for_a_while() {
        let packs = Packs::default();
        let refs: Vec<PackRef> = [b"a", b"b", b"c"].map(|n| PackRef { digest: Digest::sha256(n), size: 1 }).into();
        packs.remember(refs[0].digest, Some(Arc::new(Pack { parts: Vec::new() })));
        packs.remember(refs[1].digest, None);
        let (found, unknown) = packs.known(&refs, Duration::from_secs(60));
        assert!(found[0].is_some() && found[1].is_none());
        assert_eq!(unknown, refs[2..]);
        let (_, unknown) = packs.known(&refs, Duration::ZERO);
        assert_eq!(unknown, refs[1..]);
        packs.forget(&refs[0].digest);
        packs.remember_places(vec![(refs[1].digest, Pack { parts: Vec::new() })]);
        let (found, unknown) = packs.known(&refs, Duration::from_secs(60));
        assert!(found[1].is_some());
        assert_eq!(unknown, [refs[0].clone(), refs[2].clone()]);
    }

    #[test]
    fn a_link_to_another_file_is_no_pack() {
        let (outside, mount) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let pack = PackRef { digest: Digest::sha256(b"x"), size: 4 };
        let path = mount.path().join(pack_path(&pack.digest));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let elsewhere = outside.path().join("elsewhere");
        std::fs::write(&elsewhere, "four").unwrap();
        xattr::set(&elsewhere, "user.hash", "e8ec3d88b62ebf526e4e5a4ff6162a3aa48a6b78".as_bytes()).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        let error = locate_one(mount.path(), &pack).unwrap_err();
        assert!(error.to_string().contains(&pack_path(&pack.digest)), "{error}");
        // The same file within the mount is one.
        std::fs::remove_file(&path).unwrap();
        std::fs::rename(&elsewhere, &path).unwrap();
        assert_eq!(locate_one(mount.path(), &pack).unwrap().unwrap().parts.len(), 1);
        std::fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let error = locate_one(mount.path(), &pack).unwrap_err();
        assert!(error.to_string().contains("not a regular file"), "{error}");
    }

    #[test]
    fn a_directory_without_a_client_has_no_packs() {
        let directory = tempfile::tempdir().unwrap();
        let error = locate(directory.path(), &[PackRef { digest: Digest::sha256(b"x"), size: 1 }]).unwrap_err();
        assert!(error.to_string().contains("no CVMFS client is mounted"), "{error}");
    }
}
