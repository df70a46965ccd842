//! Pushing a bundle beside its image in a registry.
//!
//! ```text
//! <repository>@<digest of the image's manifest>      the image, unchanged
//!   ^ subject
//! <repository>@<digest>                              artifact manifest, artifactType [`BUNDLE_TYPE`]
//!   config   {}                                      [`EMPTY_TYPE`]
//!   layers   image.bundle                            [`BUNDLE_TYPE`]
//!            <64 hex>.pack ...                       [`PACK_TYPE`]
//! <repository>:sha256-<64 hex of the image's manifest>.cvmfs-prefetch   the same artifact: nodes find it by this tag
//! <repository>:sha256-<64 hex of the image's manifest>   index of artifacts, in registries without the referrers API
//! ```
//!
//! An image has one bundle, the one with the tag: a new one takes the tag over, and older ones are deleted where the registry allows
//! it. Artifacts of others are left alone.

use std::collections::BTreeMap;

use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};
use tracing::warn;

use super::PublishError;
use crate::bundle::Bundle;
use crate::image::Digest;
use crate::layout::BUNDLE_FILE;
use crate::pack::PackFile;
use crate::registry::RegistryError;
use crate::registry::artifact::{
    BUNDLE_TYPE, CHAIN_ID, Descriptor, EMPTY, EMPTY_TYPE, INDEX_TYPE, MANIFEST_TYPE, Manifest, PACK_TYPE, TRACES,
    bundle_tag,
};
use crate::registry::client::{Client, Content, Right};
use crate::registry::referrers::{self, fallback_tag};

/// Annotation: file name, for tools that pull artifacts into a directory.
const TITLE: &str = "org.opencontainers.image.title";
/// Attempts to update the index of a fallback tag while others write it, too.
const ATTEMPTS: usize = 5;

/// Result of [`push`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// The artifact: `<registry>/<repository>@<digest>`.
    pub artifact: String,
    /// The tag that lists it, in registries without the referrers API.
    pub fallback_tag: Option<String>,
    /// Number of older bundles of the image that were removed from the list of its artifacts.
    pub replaced: usize,
}

/// Pushes `bundle` and `packs` to the repository of `reference`, beside the image whose manifest the bundle
/// names.
pub async fn push(
    bundle: &Bundle,
    reference: &str,
    packs: &[std::path::PathBuf],
    plain_http: bool,
) -> Result<Pushed, PublishError> {
    let image = bundle.image.manifest.ok_or(PublishError::NoManifest)?;
    let packs = PackFile::open_all(packs)?;
    let client = Client::open(reference, plain_http, Right::Write).await?;
    let subject = subject(&client, &image).await?;
    let bytes = bundle.to_bytes()?;
    let manifest = manifest(bundle, &bytes, &packs, subject);
    client.put_blob(&Digest::sha256(EMPTY), EMPTY.len() as u64, Content::Bytes(EMPTY)).await?;
    client.put_blob(&Digest::sha256(&bytes), bytes.len() as u64, Content::Bytes(&bytes)).await?;
    for pack in &packs {
        client.put_blob(&pack.reference().digest, pack.reference().size, Content::File(pack.path())).await?;
    }
    // A token may be valid for a minute only, and pushing packs may take longer.
    let client = Client::open(reference, plain_http, Right::Write).await?;
    list(&client, &image, &manifest).await
}

/// Descriptor of the image's own manifest, as the registry has it.
async fn subject(client: &Client, image: &Digest) -> Result<Descriptor, RegistryError> {
    let raw = client.manifest(&image.to_string()).await?;
    let raw = raw.ok_or_else(|| {
        client.malformed(format!("the registry has no manifest {image}, the image of the bundle; push the image first"))
    })?;
    Ok(Descriptor::new(&raw.media_type, image, raw.bytes.len() as u64))
}

/// The artifact manifest. The same bundle gives the same bytes, so publishing twice changes nothing.
fn manifest(bundle: &Bundle, bytes: &[u8], packs: &[PackFile], subject: Descriptor) -> Manifest {
    let titled = |descriptor: Descriptor, title: String| Descriptor {
        annotations: [(TITLE.to_owned(), title)].into(),
        ..descriptor
    };
    let mut layers = vec![titled(Descriptor::for_content(BUNDLE_TYPE, bytes), BUNDLE_FILE.to_owned())];
    layers.extend(packs.iter().map(|pack| {
        let descriptor = Descriptor::new(PACK_TYPE, &pack.reference().digest, pack.reference().size);
        titled(descriptor, format!("{}.pack", pack.reference().digest.hex()))
    }));
    Manifest {
        schema_version: 2,
        media_type: Some(MANIFEST_TYPE.to_owned()),
        artifact_type: Some(BUNDLE_TYPE.to_owned()),
        config: Descriptor::for_content(EMPTY_TYPE, EMPTY),
        layers,
        subject: Some(subject),
        annotations: [
            (CHAIN_ID.to_owned(), bundle.image.chain_id.to_string()),
            (TRACES.to_owned(), bundle.traces.to_string()),
        ]
        .into(),
    }
}

/// Pushes the manifest, and makes sure that it is listed and no older one is.
async fn list(client: &Client, image: &Digest, manifest: &Manifest) -> Result<Pushed, PublishError> {
    let bytes = serde_json::to_vec(manifest).map_err(|e| client.malformed(format!("artifact manifest: {e}")))?;
    let listed = Descriptor {
        artifact_type: manifest.artifact_type.clone(),
        annotations: manifest.annotations.clone(),
        ..Descriptor::for_content(MANIFEST_TYPE, &bytes)
    };
    let headers = client.put_manifest(&listed.digest, MANIFEST_TYPE, bytes.clone()).await?;
    // The content is the same, so nodes find the new bundle from here on, whatever happens to older ones.
    client.put_manifest(&bundle_tag(image), MANIFEST_TYPE, bytes).await?;
    let artifact = format!("{}@{}", client.name(), listed.digest);
    if headers.contains_key("oci-subject") {
        return Ok(Pushed { artifact, fallback_tag: None, replaced: delete_older(client, image, &listed).await? });
    }
    let replaced = update_tag(client, image, &listed).await?;
    Ok(Pushed { artifact, fallback_tag: Some(fallback_tag(image)), replaced })
}

/// Deletes bundles that `listed` replaces, in a registry that lists artifacts by itself.
async fn delete_older(client: &Client, image: &Digest, listed: &Descriptor) -> Result<usize, RegistryError> {
    let mut deleted = 0;
    for older in referrers::find(client, image, BUNDLE_TYPE).await? {
        if older.digest == listed.digest {
            continue;
        }
        match client.delete_manifest(&older.digest).await {
            Ok(()) => deleted += 1,
            Err(error) => warn!(
                artifact = older.digest, %error,
                "cannot delete an older bundle; nodes use the new one"
            ),
        }
    }
    Ok(deleted)
}

/// Adds `listed` to the index of the fallback tag and removes older bundles. Registries cannot do this
/// atomically, so the index is read again: others may have written it at the same time.
async fn update_tag(client: &Client, image: &Digest, listed: &Descriptor) -> Result<usize, RegistryError> {
    let tag = fallback_tag(image);
    let mut replaced = 0;
    for _ in 0..ATTEMPTS {
        let existing = client.manifest(&tag).await?.map(|raw| raw.bytes);
        let (index, older) = with_entry(existing.as_deref(), listed)
            .map_err(|error| client.malformed(format!("the tag {tag} is not a list of artifacts: {error}")))?;
        replaced += older;
        client.put_manifest(&tag, INDEX_TYPE, index.clone()).await?;
        if client.manifest(&tag).await?.is_some_and(|raw| raw.bytes == index) {
            return Ok(replaced);
        }
    }
    Err(client.malformed(format!("others keep changing the tag {tag}; push again")))
}

/// An index of artifacts is malformed.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// It is not valid JSON of the expected structure.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// It has no list of manifests.
    #[error("it has no manifests")]
    NoManifests,
}

/// The index `existing` (`None`: an empty one) with `listed` added, and the number of other bundles that were removed from
/// it. Entries of others stay as they are.
pub fn with_entry(existing: Option<&[u8]>, listed: &Descriptor) -> Result<(Vec<u8>, usize), IndexError> {
    let empty = json!({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": []}).to_string();
    // As text, not as values: a number may change when it is parsed and written again.
    let mut index: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(existing.unwrap_or(empty.as_bytes()))?;
    let entries = index.get_mut("manifests").ok_or(IndexError::NoManifests)?;
    let mut kept = Vec::new();
    let mut removed = 0;
    for text in serde_json::from_str::<Vec<Box<RawValue>>>(entries.get())? {
        let entry: Value = serde_json::from_str(text.get())?;
        if entry["digest"] == listed.digest.as_str() {
            continue;
        }
        if entry["artifactType"] == BUNDLE_TYPE {
            removed += 1;
        } else {
            kept.push(text);
        }
    }
    kept.push(to_raw_value(&json!(listed))?);
    *entries = to_raw_value(&kept)?;
    Ok((serde_json::to_vec(&index)?, removed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_entries_of_an_index_are_replaced() {
        let entry = |kind: Option<&str>, content: &[u8]| Descriptor {
            artifact_type: kind.map(str::to_owned),
            ..Descriptor::for_content(MANIFEST_TYPE, content)
        };
        let ours = entry(Some(BUNDLE_TYPE), b"new");
        let others = [entry(Some("application/vnd.example.signature"), b"signature"), entry(None, b"untyped")];
        let index = |entries: &[&Descriptor]| {
            let index = json!({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": entries, "x": {"y": 1}});
            serde_json::to_vec(&index).unwrap()
        };
        let older = entry(Some(BUNDLE_TYPE), b"old");
        let [signature, untyped] = &others;
        let cases = [
            (Some(index(&[])), vec![], 0),
            (Some(index(&[signature, &older, untyped])), vec![signature, untyped], 1),
            (Some(index(&[&ours, signature, &ours])), vec![signature], 0),
        ];
        for (existing, rest, replaced) in cases {
            let mut expected = rest.clone();
            expected.push(&ours);
            assert_eq!(with_entry(existing.as_deref(), &ours).unwrap(), (index(&expected), replaced));
        }
        let (made, _) = with_entry(None, &ours).unwrap();
        assert_eq!(with_entry(Some(&made), &ours).unwrap(), (made, 0));
        let huge = br#"{"manifests":[{"digest":"x","size":55555555550000000000000000000076918143}],"x": 1e400}"#;
        let (kept, _) = with_entry(Some(huge), &ours).unwrap();
        let kept = String::from_utf8(kept).unwrap();
        assert!(kept.contains(r#"{"digest":"x","size":55555555550000000000000000000076918143}"#), "{kept}");
        for bad in [&b"[]"[..], b"{}", b"{\"manifests\":1}", b"x"] {
            assert!(with_entry(Some(bad), &ours).is_err());
        }
    }
}
