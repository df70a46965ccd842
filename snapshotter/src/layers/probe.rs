//! Looking for a layer in a repository's mount, behind the mount's guard.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bundles::image::Digest;
use node::below::{self, Links};
use node::mount::{Mount, MountError};

/// The root directory of a published layer.
pub(super) fn layerfs(mount: &Path, digest: &Digest) -> PathBuf {
    mount.join(relative(digest))
}

fn relative(digest: &Digest) -> PathBuf {
    let hex = digest.hex();
    [".layers", &hex[..2], &hex, "layerfs"].iter().collect()
}

/// Looks for the layer and then calls `next` with the layer's root, if the repository has the layer.
///
/// Both are one guarded call. `next` may take long: once the first read has returned, the mount does not count as hung.
/// A call that takes longer than `timeout` goes on, and `next` can keep its result for the next lookup.
pub(super) async fn find_layer<T: Send + 'static>(
    mount: &Mount,
    digest: Digest,
    timeout: Duration,
    next: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
) -> Result<Option<T>, MountError> {
    mount
        .run(timeout, move |call| {
            let found = published(call.root(), &digest);
            call.responded();
            found?.map(|layerfs| next(&layerfs)).transpose()
        })
        .await
}

/// The layer's root, if the repository has the layer. Only "does not exist" means that it does not.
///
/// A symbolic link on the way is an error: containers would get the directory that it leads to, which may be one of the host.
fn published(mount: &Path, digest: &Digest) -> io::Result<Option<PathBuf>> {
    let path = layerfs(mount, digest);
    match below::resolve(mount, &relative(digest), Links::Refuse) {
        Ok(found) if found.metadata().is_dir() => {
            // The kernel may remember directories of a dead mount; it forwards this call to the client each time.
            rustix::fs::statfs(&path)?;
            Ok(Some(path))
        }
        Ok(_) => Err(io::Error::other(format!("{} is not a directory", path.display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // The empty directory below a missing mount has no layers either, which says nothing about the repository.
            let layers = mount.join(".layers");
            match std::fs::symlink_metadata(&layers) {
                Ok(_) => Ok(None),
                Err(error) => Err(io::Error::new(
                    error.kind(),
                    format!(
                        "{}: {error}; is the repository mounted, and does it have container layers?",
                        layers.display()
                    ),
                )),
            }
        }
        Err(error) => Err(error),
    }
}
