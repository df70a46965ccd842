//! A bundle beside its image in a registry.
//!
//! ```text
//! <repository>@<digest of the image's manifest>      the image, which stays as it is
//!   ^ subject
//! <repository>@<digest>                              artifact manifest, artifactType [`BUNDLE_TYPE`]
//!   config   {}                                      [`EMPTY_TYPE`]
//!   layers   image.bundle                            [`BUNDLE_TYPE`]
//!            <64 hex>.pack ...                       [`PACK_TYPE`]
//! <repository>:sha256-<64 hex of the image's manifest>   index of artifacts, where there is no referrers API
//! ```
//!
//! An image has one bundle: a new one takes the place of an older one. Artifacts of others are left alone.

use std::collections::BTreeMap;

use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};
use tracing::warn;

use super::PublishError;
use crate::bundle::Bundle;
use crate::image::Digest;
use crate::image::registry::RegistryError;
use crate::image::registry::artifact::{
    BUNDLE_TYPE, CHAIN_ID, Descriptor, EMPTY, EMPTY_TYPE, INDEX_TYPE, MANIFEST_TYPE, Manifest, PACK_TYPE, TRACES,
};
use crate::image::registry::client::{Client, Content, Right};
use crate::image::registry::referrers::{self, fallback_tag};
use crate::pack::PackFile;

/// File names for tools that pull artifacts into a directory.
const TITLE: &str = "org.opencontainers.image.title";
/// How often the index of a fallback tag is written if others write it, too.
const ATTEMPTS: usize = 5;

/// What [`push`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// The artifact: `<registry>/<repository>@<digest>`.
    pub artifact: String,
    /// The tag that lists it, in a registry without the referrers API.
    pub fallback_tag: Option<String>,
    /// How many older bundles of the image are no longer there.
    pub replaced: usize,
}

/// Pushes `bundle` and `packs` to where `reference` is, beside the image with the manifest that the bundle names.
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
    client.put_blob(&Digest::of(EMPTY), EMPTY.len() as u64, Content::Bytes(EMPTY)).await?;
    client.put_blob(&Digest::of(&bytes), bytes.len() as u64, Content::Bytes(&bytes)).await?;
    for pack in &packs {
        client.put_blob(&pack.reference().digest, pack.reference().size, Content::File(pack.path())).await?;
    }
    // A token may live for a minute only, and the packs may have taken longer.
    let client = Client::open(reference, plain_http, Right::Write).await?;
    list(&client, &image, &manifest).await
}

/// The image's own manifest, as the registry has it.
async fn subject(client: &Client, image: &Digest) -> Result<Descriptor, RegistryError> {
    let raw = client.manifest(&image.to_string()).await?;
    let raw = raw.ok_or_else(|| {
        client.malformed(format!("the registry has no manifest {image}, which the bundle is for; push the image first"))
    })?;
    Ok(Descriptor::new(&raw.media_type, image, raw.bytes.len() as u64))
}

/// The artifact. The same bundle gives the same bytes, so publishing twice changes nothing.
fn manifest(bundle: &Bundle, bytes: &[u8], packs: &[PackFile], subject: Descriptor) -> Manifest {
    let titled = |descriptor: Descriptor, title: String| Descriptor {
        annotations: [(TITLE.to_owned(), title)].into(),
        ..descriptor
    };
    let mut layers = vec![titled(Descriptor::of(BUNDLE_TYPE, bytes), super::FILE.to_owned())];
    layers.extend(packs.iter().map(|pack| {
        let descriptor = Descriptor::new(PACK_TYPE, &pack.reference().digest, pack.reference().size);
        titled(descriptor, format!("{}.pack", pack.reference().digest.hex()))
    }));
    Manifest {
        schema_version: 2,
        media_type: Some(MANIFEST_TYPE.to_owned()),
        artifact_type: Some(BUNDLE_TYPE.to_owned()),
        config: Descriptor::of(EMPTY_TYPE, EMPTY),
        layers,
        subject: Some(subject),
        annotations: [
            (CHAIN_ID.to_owned(), bundle.image.chain_id.to_string()),
            (TRACES.to_owned(), bundle.traces.to_string()),
        ]
        .into(),
    }
}

/// Pushes the manifest and sees to it that it is found, and no older one.
async fn list(client: &Client, image: &Digest, manifest: &Manifest) -> Result<Pushed, PublishError> {
    let bytes = serde_json::to_vec(manifest).map_err(|e| client.malformed(format!("its artifact: {e}")))?;
    let listed = Descriptor {
        artifact_type: manifest.artifact_type.clone(),
        annotations: manifest.annotations.clone(),
        ..Descriptor::of(MANIFEST_TYPE, &bytes)
    };
    let headers = client.put_manifest(&listed.digest, MANIFEST_TYPE, bytes).await?;
    let artifact = format!("{}@{}", client.name(), listed.digest);
    match headers.contains_key("oci-subject") {
        true => Ok(Pushed { artifact, fallback_tag: None, replaced: delete_older(client, image, &listed).await? }),
        false => {
            let replaced = update_tag(client, image, &listed).await?;
            Ok(Pushed { artifact, fallback_tag: Some(fallback_tag(image)), replaced })
        }
    }
}

/// Removes bundles that `listed` takes the place of, from a registry that lists them by itself.
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
                "an older bundle stays beside the image; readers take the one of the most traces"
            ),
        }
    }
    Ok(deleted)
}

/// Puts `listed` into the index of the fallback tag, and older bundles out of it. Registries have no way to do this in one
/// step, so it is read again afterwards: somebody else may have written it at the same time.
async fn update_tag(client: &Client, image: &Digest, listed: &Descriptor) -> Result<usize, RegistryError> {
    let tag = fallback_tag(image);
    let mut replaced = 0;
    for _ in 0..ATTEMPTS {
        let there = client.manifest(&tag).await?.map(|raw| raw.bytes);
        let (index, older) = with_entry(there.as_deref(), listed)
            .map_err(|why| client.malformed(format!("the tag {tag} is not a list of artifacts: {why}")))?;
        replaced += older;
        client.put_manifest(&tag, INDEX_TYPE, index.clone()).await?;
        if client.manifest(&tag).await?.is_some_and(|raw| raw.bytes == index) {
            return Ok(replaced);
        }
    }
    Err(client.malformed(format!("the tag {tag} is changed by others all the time; publish again")))
}

/// The index `there` (none: an empty one) with `listed` in it, and how many other bundles were taken out. What others
/// wrote stays as it is.
pub fn with_entry(there: Option<&[u8]>, listed: &Descriptor) -> Result<(Vec<u8>, usize), String> {
    let told = |error: serde_json::Error| error.to_string();
    let empty = json!({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": []}).to_string();
    // As text, not as values: a number that is read and written again may be another one.
    let mut index: BTreeMap<String, Box<RawValue>> =
        serde_json::from_slice(there.unwrap_or(empty.as_bytes())).map_err(told)?;
    let entries = index.get_mut("manifests").ok_or("it has no manifests")?;
    let (mut kept, mut older) = (Vec::new(), 0);
    for text in serde_json::from_str::<Vec<Box<RawValue>>>(entries.get()).map_err(told)? {
        let entry: Value = serde_json::from_str(text.get()).map_err(told)?;
        if entry["digest"] == listed.digest.as_str() {
            continue;
        }
        match entry["artifactType"] == BUNDLE_TYPE {
            true => older += 1,
            false => kept.push(text),
        }
    }
    kept.push(to_raw_value(&json!(listed)).map_err(told)?);
    *entries = to_raw_value(&kept).map_err(told)?;
    Ok((serde_json::to_vec(&index).map_err(told)?, older))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_a_list_of_artifacts_only_our_own_is_replaced() {
        let entry = |kind: Option<&str>, content: &[u8]| Descriptor {
            artifact_type: kind.map(str::to_owned),
            ..Descriptor::of(MANIFEST_TYPE, content)
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
        for (there, rest, replaced) in cases {
            let mut expected = rest.clone();
            expected.push(&ours);
            assert_eq!(with_entry(there.as_deref(), &ours).unwrap(), (index(&expected), replaced));
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
