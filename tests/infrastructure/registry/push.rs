use std::path::PathBuf;

use bundles::image::Digest;
use bundles::pack;
use bundles::publish::{PublishError, Pushed, push};
use bundles::registry::RegistryError;
use bundles::registry::artifact::BUNDLE_TYPE;
use bundles::registry::{describe, fetch_bundle};
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use serde_json::{Value, json};
use testbed::images::Image;
use testbed::registry::Registry;

use super::fake::FakeRegistry;
use super::{bundle, image};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

async fn get(address: &str, path: &str) -> (Option<String>, Vec<u8>) {
    let url = format!("http://{address}/v2/demo/small/{path}");
    let request = reqwest::Client::new().get(url).header(ACCEPT, format!("{INDEX}, {MANIFEST}"));
    let answer = request.send().await.unwrap().error_for_status().unwrap();
    let digest = answer.headers().get("docker-content-digest").map(|value| value.to_str().unwrap().to_owned());
    (digest, answer.bytes().await.unwrap().to_vec())
}

async fn put_index(address: &str, tag: &str, index: &Value) {
    let url = format!("http://{address}/v2/demo/small/manifests/{tag}");
    let body = serde_json::to_vec(index).unwrap();
    let put = reqwest::Client::new().put(url).header(CONTENT_TYPE, INDEX).body(body).send().await.unwrap();
    assert_eq!(put.status(), 201, "{}", put.text().await.unwrap());
}

/// Checks that the image is unchanged, by tag and by digest.
async fn is_unchanged(address: &str, image: &Image) {
    for name in [&image.tag, &image.manifest_digest().to_string()] {
        let (digest, bytes) = get(address, &format!("manifests/{name}")).await;
        assert_eq!((digest, bytes), (Some(image.manifest_digest().to_string()), image.manifest.clone()), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn debians_registry_lists_a_bundle_under_the_fallback_tag() {
    let directory = tempfile::tempdir().unwrap();
    let registry = Registry::start(&directory.path().join("registry")).unwrap();
    let (image, other) = (image(directory.path(), "1"), image(directory.path(), "2"));
    let reference = registry.push(&image).await.unwrap();
    let other_reference = registry.push(&other).await.unwrap();
    let tag = format!("sha256-{}", image.manifest_digest().hex());
    assert_eq!(fetch_bundle(&reference, true).await.unwrap(), None);

    let one = bundle(&image, &reference, 1);
    let pushed = push(&one, &reference, &[], true).await.unwrap();
    assert_eq!((pushed.fallback_tag.as_ref(), pushed.replaced), (Some(&tag), 0));
    assert_eq!(fetch_bundle(&reference, true).await.unwrap().as_ref(), Some(&one));
    assert_eq!(push(&one, &reference, &[], true).await.unwrap(), pushed, "a second time");
    is_unchanged(registry.address(), &image).await;

    // The image gets a signature; a newer bundle of fewer traces replaces the older bundle, but not the signature.
    let (_, index) = get(registry.address(), &format!("manifests/{tag}")).await;
    let mut index: Value = serde_json::from_slice(&index).unwrap();
    let signature = json!({
        "mediaType": MANIFEST, "digest": other.manifest_digest(), "size": other.manifest.len(),
        "artifactType": "application/vnd.example.signature", "annotations": {"a": "b"},
    });
    index["manifests"].as_array_mut().unwrap().insert(0, signature.clone());
    put_index(registry.address(), &tag, &index).await;
    let packs: Vec<PathBuf> = [&b"objects"[..], &[7; 3_000_000]]
        .map(|content| {
            let (pack, _) = pack::assemble(&[pack::PackedObject::file(content, 7)], &[content]).unwrap();
            let path = directory.path().join(pack::file_name(&Digest::sha256(&pack)));
            std::fs::write(&path, pack).unwrap();
            path
        })
        .into();
    let two = super::bundle(&image, &reference, 0);
    let replaced = push(&two, &reference, &packs, true).await.unwrap();
    assert_eq!(replaced.replaced, 1);
    assert_eq!(fetch_bundle(&reference, true).await.unwrap().as_ref(), Some(&two));
    let (_, index) = get(registry.address(), &format!("manifests/{tag}")).await;
    let index: Value = serde_json::from_slice(&index).unwrap();
    assert_eq!(index["manifests"].as_array().unwrap().len(), 2);
    assert_eq!(index["manifests"][0], signature);
    is_unchanged(registry.address(), &image).await;

    // The artifact as seen by other tools.
    let digest = replaced.artifact.rsplit_once('@').unwrap().1;
    let (_, artifact) = get(registry.address(), &format!("manifests/{digest}")).await;
    let artifact: Value = serde_json::from_slice(&artifact).unwrap();
    let subject = json!({"mediaType": MANIFEST, "digest": image.manifest_digest(), "size": image.manifest.len()});
    assert_eq!(artifact["subject"], subject);
    assert_eq!(artifact["artifactType"], BUNDLE_TYPE);
    assert_eq!(artifact["config"]["mediaType"], "application/vnd.oci.empty.v1+json");
    assert_eq!(artifact["annotations"]["io.github.cvmfs-prefetch.chain-id"], image.chain_id().to_string());
    let layers = artifact["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 3);
    for (layer, path) in layers[1..].iter().zip(&packs) {
        assert_eq!(layer["mediaType"], "application/vnd.cvmfs-prefetch.pack.v1");
        let (_, blob) = get(registry.address(), &format!("blobs/{}", layer["digest"].as_str().unwrap())).await;
        assert_eq!(blob, std::fs::read(path).unwrap());
    }

    // Pushing is refused without the image, and if the fallback tag is an image.
    assert_eq!(fetch_bundle(&other_reference, true).await.unwrap(), None);
    let nowhere = bundle(&super::image(directory.path(), "never pushed"), &reference, 1);
    let refused = push(&nowhere, &reference, &[], true).await.unwrap_err().to_string();
    assert!(refused.contains("push the image first"), "{refused}");
    let missing = fetch_bundle(&reference.replace(":1", ":9"), true).await.unwrap_err().to_string();
    assert!(missing.contains("has no manifest 9"), "{missing}");
    let taken = format!("sha256-{}", other.manifest_digest().hex());
    let url = format!("http://{}/v2/demo/small/manifests/{taken}", registry.address());
    let put = reqwest::Client::new().put(url).header(CONTENT_TYPE, MANIFEST).body(image.manifest.clone());
    assert_eq!(put.send().await.unwrap().status(), 201);
    let refused = push(&bundle(&other, &other_reference, 1), &other_reference, &[], true).await.unwrap_err();
    assert!(matches!(refused, PublishError::Registry(RegistryError::Malformed { .. })), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_with_the_referrers_api_lists_a_bundle() {
    let directory = tempfile::tempdir().unwrap();
    let image = image(directory.path(), "1");
    for may_delete in [true, false] {
        let registry = FakeRegistry::start().await;
        let reference = registry.add(&image);
        registry.refuse_deletion(!may_delete);
        assert_eq!(fetch_bundle(&reference, true).await.unwrap(), None);
        let (one, two) = (bundle(&image, &reference, 1), bundle(&image, &reference, 2));
        let Pushed { fallback_tag, replaced, .. } = push(&one, &reference, &[], true).await.unwrap();
        assert_eq!((fallback_tag, replaced), (None, 0));
        assert_eq!(fetch_bundle(&reference, true).await.unwrap().as_ref(), Some(&one));
        assert_eq!(push(&two, &reference, &[], true).await.unwrap().replaced, usize::from(may_delete));
        assert_eq!(fetch_bundle(&reference, true).await.unwrap().as_ref(), Some(&two));
        // The last push decides, whatever the number of traces, and whether or not others can be deleted.
        push(&one, &reference, &[], true).await.unwrap();
        assert_eq!(fetch_bundle(&reference, true).await.unwrap().as_ref(), Some(&one));
        let tags = registry.tags();
        let is_fallback = |tag: &String| tag.starts_with("sha256-") && !tag.ends_with(".cvmfs-prefetch");
        assert!(!tags.iter().any(is_fallback), "a fallback tag was written: {tags:?}");
        assert_eq!(describe(&reference, true).await.unwrap().id.manifest, Some(image.manifest_digest()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bundle_of_this_platforms_image_is_found_by_an_index() {
    let directory = tempfile::tempdir().unwrap();
    let registry = Registry::start(&directory.path().join("registry")).unwrap();
    let (here, elsewhere) = (image(directory.path(), "1"), image(directory.path(), "2"));
    let reference = registry.push(&here).await.unwrap();
    registry.push(&elsewhere).await.unwrap();
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let entry = |image: &Image, architecture: &str| {
        json!({
            "mediaType": MANIFEST, "digest": image.manifest_digest(), "size": image.manifest.len(),
            "platform": {"os": "linux", "architecture": architecture},
        })
    };
    let manifests = [entry(&elsewhere, "s390x"), entry(&here, architecture)];
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
    put_index(registry.address(), "all", &index).await;
    let all = reference.replace(":1", ":all");
    let pushed = bundle(&here, &all, 1);
    push(&pushed, &all, &[], true).await.unwrap();
    assert_eq!(fetch_bundle(&all, true).await.unwrap(), Some(pushed.clone()));
    assert_eq!(fetch_bundle(&reference, true).await.unwrap(), Some(pushed));
    assert_eq!(describe(&all, true).await.unwrap().id.manifest, Some(here.manifest_digest()));
}
