//! The diff ID of a published layer, as the repository states it.
//!
//! An image names a layer twice: its manifest has the digest of the compressed layer, its configuration the diff ID, the digest of
//! the uncompressed one. Both are written by the image's author, who may combine any two. So the pair is believed only if the
//! repository has it, where only the publisher of layers can write: DUCC puts it into
//! `.layers/<2 hex>/<hex>/.metadata/layers.json` when it ingests a layer. Source: `LayerInfo` in `ducc/lib/podman_store.go` of CVMFS.
//!
//! ```json
//! [{"compressed-diff-digest": "sha256:...", "diff-digest": "sha256:..."}]
//! ```

use std::io;
use std::path::{Path, PathBuf};

use bundles::image::Digest;
use node::below;
use serde::Deserialize;

/// Largest file that is read, in bytes. DUCC writes less than 400.
const MAX_FILE: u64 = 64 << 10;

#[derive(Deserialize)]
struct LayerInfo {
    #[serde(rename = "compressed-diff-digest")]
    digest: Option<String>,
    #[serde(rename = "diff-digest")]
    diff_id: Option<String>,
}

/// Reads the diff ID of the layer `digest`; `None` if the repository does not state it. Must be called in a guarded call of the mount.
pub fn read(mount: &Path, digest: &Digest) -> io::Result<Option<Digest>> {
    let path = path(digest);
    match below::read(mount, &path, MAX_FILE) {
        Ok(content) => Ok(parse(&content, digest).unwrap_or_else(|error| {
            tracing::warn!(path = %mount.join(path).display(), %error, "cannot read the diff ID of a layer");
            None
        })),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Relative to the repository's root.
fn path(digest: &Digest) -> PathBuf {
    let hex = digest.hex();
    [".layers", &hex[..2], &hex, ".metadata", "layers.json"].iter().collect()
}

fn parse(content: &[u8], digest: &Digest) -> Result<Option<Digest>, serde_json::Error> {
    let layers: Vec<LayerInfo> = serde_json::from_slice(content)?;
    let digest = digest.to_string();
    let layer = layers.into_iter().find(|layer| layer.digest.as_ref() == Some(&digest));
    Ok(layer.and_then(|layer| layer.diff_id?.parse().ok()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_diff_id_is_that_of_the_layer_itself() {
        let [layer, other, diff_id] = [b"layer", b"other", b"diff "].map(|text| Digest::sha256(text));
        let entry =
            |digest: &Digest| format!(r#"{{"id":"x","compressed-diff-digest":"{digest}","diff-digest":"{diff_id}"}}"#);
        let parse = |text: &str| parse(text.as_bytes(), &layer);
        assert_eq!(parse(&format!("[{}]", entry(&layer))).unwrap(), Some(diff_id));
        assert_eq!(parse(&format!("[{},{}]", entry(&other), entry(&layer))).unwrap(), Some(diff_id));
        for without in
            [format!("[{}]", entry(&other)), "[]".into(), "[{}]".into(), entry(&layer).replace("sha256:", "")]
        {
            let text = if without.starts_with('[') { without } else { format!("[{without}]") };
            assert_eq!(parse(&text).unwrap(), None, "{text}");
        }
        for malformed in ["", "{}", "[1]", "null", r#"[{"diff-digest":1}]"#] {
            assert!(parse(malformed).is_err(), "{malformed}");
        }
    }

    #[test]
    fn a_file_that_is_missing_or_malformed_states_nothing() {
        let mount = tempfile::tempdir().unwrap();
        let digest = Digest::sha256(b"layer");
        assert_eq!(read(mount.path(), &digest).unwrap(), None);
        let file = mount.path().join(path(&digest));
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, "rubbish").unwrap();
        assert_eq!(read(mount.path(), &digest).unwrap(), None);
        std::fs::File::options().write(true).open(&file).unwrap().set_len(MAX_FILE + 1).unwrap();
        assert!(read(mount.path(), &digest).is_err());
    }
}
