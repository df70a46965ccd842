//! Bundles in a repository's tree.
//!
//! ```text
//! .bundles/.cvmfscatalog                                   a catalog of its own, so that others need not know it
//! .bundles/<2 hex>/<64 hex of the chain ID>/image.bundle   the bundle
//! .bundles/manifests/<2 hex>/<64 hex of the manifest digest> -> ../../<2 hex>/<64 hex of the chain ID>
//! ```
//!
//! At a pull only the manifest's digest is known, at a container's start only the chain ID.

use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::bundle::Bundle;
use crate::file::FileError;
use crate::image::{ChainId, Digest};

/// The directory below a repository's root.
pub const DIRECTORY: &str = ".bundles";

const FILE: &str = "image.bundle";

/// Where the bundle of a chain ID is, relative to the repository's root.
pub fn bundle_path(chain_id: &ChainId) -> String {
    format!("{DIRECTORY}/{}/{FILE}", fan_out(&chain_id.0))
}

/// Where the bundle of a manifest is found, relative to the repository's root.
pub fn manifest_path(manifest: &Digest) -> String {
    format!("{DIRECTORY}/manifests/{}/{FILE}", fan_out(manifest))
}

fn fan_out(digest: &Digest) -> String {
    let hex = digest.hex();
    format!("{}/{hex}", &hex[..2])
}

/// Writes `bundle` below `tree`, the root of a repository open for writing (or a directory to be copied there).
/// An older bundle of the same image is replaced. Returns the bundle's path.
pub fn publish(bundle: &Bundle, tree: &Path) -> Result<PathBuf, FileError> {
    let target = tree.join(bundle_path(&bundle.image.chain_id));
    let with = |path: &Path| {
        let path = path.to_owned();
        move |source| FileError::Io { path, source }
    };
    if !tree.is_dir() {
        return Err(with(tree)(io::Error::new(io::ErrorKind::NotADirectory, "the repository's tree is not there")));
    }
    let directory = target.parent().unwrap_or(tree);
    std::fs::create_dir_all(directory).map_err(with(directory))?;
    let marker = tree.join(DIRECTORY).join(".cvmfscatalog");
    std::fs::write(&marker, b"").map_err(with(&marker))?;
    bundle.write(&target)?;
    if let Some(manifest) = &bundle.image.manifest {
        let alias = tree.join(DIRECTORY).join("manifests").join(fan_out(manifest));
        let shelf = alias.parent().unwrap_or(tree);
        std::fs::create_dir_all(shelf).map_err(with(shelf))?;
        replace_link(&format!("../../{}", fan_out(&bundle.image.chain_id.0)), &alias).map_err(with(&alias))?;
    }
    Ok(target)
}

/// Makes `link` point to `target`, in one step for whoever reads it.
fn replace_link(target: &str, link: &Path) -> io::Result<()> {
    let temporary = link.with_extension("new");
    match std::fs::remove_file(&temporary) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    symlink(target, &temporary)?;
    std::fs::rename(&temporary, link)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::ImageId;

    fn bundle(manifest: &[u8], traces: u32) -> Bundle {
        let image = ImageId {
            chain_id: ChainId(Digest::of(b"chain")),
            manifest: Some(Digest::of(manifest)),
            reference: "registry.example.org/demo:1".to_owned(),
        };
        Bundle { traces, ..Bundle::of(image, "unpacked.example.org") }
    }

    #[test]
    fn a_published_bundle_is_found_by_both_names_and_replaced_as_a_whole() {
        let tree = tempfile::tempdir().unwrap();
        for (manifest, traces) in [(b"one", 1), (b"two", 2), (b"two", 3)] {
            let bundle = bundle(manifest, traces);
            publish(&bundle, tree.path()).unwrap();
            let by_chain = tree.path().join(bundle_path(&bundle.image.chain_id));
            let by_manifest = tree.path().join(manifest_path(&Digest::of(manifest)));
            assert_eq!(Bundle::read(&by_chain).unwrap(), bundle);
            assert_eq!(Bundle::read(&by_manifest).unwrap(), bundle);
        }
        let mut names: Vec<_> = walk(tree.path()).into_iter().filter(|n| !n.is_dir()).collect();
        names.sort();
        assert_eq!(names.len(), 2, "left over: {names:?}");
    }

    fn walk(at: &Path) -> Vec<PathBuf> {
        let below = std::fs::read_dir(at).unwrap().map(|e| e.unwrap().path());
        below.flat_map(|p| if p.is_dir() && !p.is_symlink() { walk(&p) } else { vec![p] }).collect()
    }

    #[test]
    fn a_missing_tree_is_named() {
        let message = publish(&bundle(b"m", 1), Path::new("/nonexistent/tree")).unwrap_err().to_string();
        assert!(message.contains("/nonexistent/tree"), "{message}");
    }
}
