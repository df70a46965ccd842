//! Whether a repository states the diff IDs of its layers, without which they are not taken from CVMFS.

use std::io;
use std::path::Path;

use anyhow::{Result, bail};
use bundles::image::Digest;
use node::mount::Mount;

use super::TIMEOUT;
use crate::config::{Repository, UnverifiedLayers};
use crate::layers::diff_id;

/// Layers that are looked at. A repository can have layers of several programs.
const SAMPLE: usize = 20;

pub(super) async fn check(repository: &Repository, unverified_layers: UnverifiedLayers) -> Result<String> {
    let (with, looked_at) = Mount::new(&repository.mount).run(TIMEOUT, |call| sample(call.root())).await?;
    let name = &repository.name;
    let missing = looked_at - with;
    match unverified_layers {
        _ if missing == 0 => Ok(format!("stated for all of {looked_at} layers looked at")),
        UnverifiedLayers::Trust => Ok(format!(
            "not stated for {missing} of {looked_at} layers looked at, which are trusted: an image can take the chain ID of another one"
        )),
        UnverifiedLayers::Unpack => bail!(
            "not stated for {missing} of {looked_at} layers looked at, so these are downloaded and unpacked; have the publisher of {name} \
             write .metadata/layers.json beside each layer, as DUCC does, or set unverified_layers = \"trust\" if nobody but you \
             decides which images run on this node"
        ),
    }
}

/// How many layers state their diff ID, of how many.
fn sample(mount: &Path) -> io::Result<(usize, usize)> {
    let (mut with, mut looked_at) = (0, 0);
    for folder in std::fs::read_dir(mount.join(".layers"))? {
        let folder = folder?.path();
        if !folder.is_dir() {
            continue;
        }
        for layer in std::fs::read_dir(folder)? {
            let Some(digest) = Digest::from_hex(layer?.file_name().as_encoded_bytes()) else { continue };
            looked_at += 1;
            with += usize::from(diff_id::read(mount, &digest)?.is_some());
            if looked_at == SAMPLE {
                return Ok((with, looked_at));
            }
        }
    }
    Ok((with, looked_at))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_repository_without_diff_ids_is_reported() {
        let mount = tempfile::tempdir().unwrap();
        let repository = Repository { name: "one.example.org".into(), mount: mount.path().to_owned() };
        for (layer, is_stated) in [("a", true), ("b", false)] {
            let (digest, diff_id) = (Digest::sha256(layer.as_bytes()), Digest::sha256(b"diff"));
            let metadata = mount.path().join(format!(".layers/{}/{}/.metadata", &digest.hex()[..2], digest.hex()));
            std::fs::create_dir_all(&metadata).unwrap();
            if is_stated {
                let text = format!(r#"[{{"compressed-diff-digest":"{digest}","diff-digest":"{diff_id}"}}]"#);
                std::fs::write(metadata.join("layers.json"), text).unwrap();
                assert!(check(&repository, UnverifiedLayers::Unpack).await.unwrap().contains("all of 1"));
            }
        }
        let error = check(&repository, UnverifiedLayers::Unpack).await.unwrap_err().to_string();
        assert!(error.contains("not stated for 1 of 2") && error.contains("layers.json"), "{error}");
        assert!(check(&repository, UnverifiedLayers::Trust).await.unwrap().contains("trusted"));
    }
}
