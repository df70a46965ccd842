//! Registries that send wrong data, and one that redirects.

use bundles::bundle::Bundle;
use bundles::image::{ChainId, Digest, ImageId};
use bundles::publish::{PublishError, push};
use bundles::registry::artifact::BUNDLE_TYPE;
use bundles::registry::{RegistryError, fetch_bundle};
use serde_json::{Value, json};
use testbed::images::Image;

use super::fake::{FakeRegistry, WrongResponse};
use super::{bundle, image};

/// A fake registry with an image and its bundle; the artifact's digest and manifest.
async fn site(image: &Image) -> (FakeRegistry, String, Value) {
    let registry = FakeRegistry::start().await;
    let reference = registry.add(image);
    let pushed = push(&bundle(image, &reference, 1), &reference, &[], true).await.unwrap();
    let digest = pushed.artifact.rsplit_once('@').unwrap().1.to_owned();
    let manifest = serde_json::from_slice(&registry.manifest(&digest)).unwrap();
    (registry, reference, manifest)
}

#[tokio::test(flavor = "multi_thread")]
async fn responses_of_a_registry_are_limited_and_verified() {
    let directory = tempfile::tempdir().unwrap();
    let image = image(directory.path(), "1");
    type Is = fn(&RegistryError) -> bool;
    let too_long: Is = |e| matches!(e, RegistryError::TooLong { .. });
    let digest: Is = |e| matches!(e, RegistryError::Digest { .. });
    let malformed: Is = |e| matches!(e, RegistryError::Malformed { .. });
    let (image_manifest, layer) = (format!("/manifests/{}", image.manifest_digest()), "/blobs/sha256:".to_owned());
    let cases = [
        (&layer, WrongResponse::Other, digest),
        (&layer, WrongResponse::HugeLength, too_long),
        (&layer, WrongResponse::Endless, too_long),
        (&"/manifests/sha256:".to_owned(), WrongResponse::Other, digest),
        (&"/manifests/sha256:".to_owned(), WrongResponse::Endless, too_long),
    ];
    for (part, wrong, is) in cases {
        let (registry, reference, _) = site(&image).await;
        registry.send_wrong(part, wrong.clone());
        let error = fetch_bundle(&reference, true).await.unwrap_err();
        assert!(is(&error), "{wrong:?} at {part}: {error}");
        assert!(registry.sent() < 64 << 20, "{wrong:?} at {part}: {} bytes were taken", registry.sent());
    }
    // Who pushes also reads the list of artifacts.
    for (wrong, is) in
        [(WrongResponse::HugeLength, too_long), (WrongResponse::Endless, too_long), (WrongResponse::Other, malformed)]
    {
        let (registry, reference, _) = site(&image).await;
        registry.send_wrong("/referrers/", wrong.clone());
        let error = push(&bundle(&image, &reference, 2), &reference, &[], true).await.unwrap_err();
        assert!(matches!(&error, PublishError::Registry(error) if is(error)), "{wrong:?}: {error}");
        assert!(registry.sent() < 64 << 20, "{wrong:?}: {} bytes were taken", registry.sent());
    }
    // With a digest, the image's manifest is verified, too.
    let (registry, reference, _) = site(&image).await;
    registry.send_wrong(&image_manifest, WrongResponse::Other);
    let by_digest = reference.replace(":1", &format!("@{}", image.manifest_digest()));
    assert!(digest(&fetch_bundle(&by_digest, true).await.unwrap_err()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_artifact_that_is_not_the_images_bundle_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (image, other) = (image(directory.path(), "1"), super::image(directory.path(), "2"));
    let (registry, reference, manifest) = site(&image).await;
    let junk = registry.put_blob(b"no bundle");
    let others = registry.put_blob(&bundle(&other, &reference, 9).to_bytes().unwrap());
    let own = bundle(&image, &reference, 9);
    let victim = ImageId { chain_id: ChainId(Digest::sha256(b"victim")), ..own.image.clone() };
    let foreign = registry.put_blob(&Bundle { image: victim, ..own }.to_bytes().unwrap());
    let layer = |digest: &str, size: u64| json!([{"mediaType": BUNDLE_TYPE, "digest": digest, "size": size}]);
    let size = |blob: &str| registry.blob(blob).len() as u64;
    let of_the_bundle = manifest["layers"][0]["digest"].as_str().unwrap().to_owned();
    let cases = [
        ("/subject/digest", json!(other.manifest_digest()), "belongs to"),
        ("/layers", layer(&of_the_bundle, (256 << 20) + 5_000), "longer than"),
        ("/layers", layer(&of_the_bundle, 1 << 60), "longer than"),
        ("/layers", layer(&of_the_bundle, 10), "longer than 10 bytes"),
        ("/layers", layer(&junk, size(&junk)), "cannot be used"),
        ("/layers", layer(&others, size(&others)), "is for the manifest"),
        ("/layers", layer(&foreign, size(&foreign)), "chain ID"),
        ("/layers", json!([]), "has no layer"),
        ("/layers", json!("none"), "malformed"),
    ];
    for (part, value, message) in cases {
        let mut bad = manifest.clone();
        *bad.pointer_mut(part).unwrap() = value;
        registry.attach(&image, &bad);
        let error = fetch_bundle(&reference, true).await.unwrap_err().to_string();
        assert!(error.contains(message), "{part}: {error}");
    }
    registry.attach(&image, &manifest);
    assert!(fetch_bundle(&reference, true).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_followed_without_login_and_verified() {
    let directory = tempfile::tempdir().unwrap();
    let image = image(directory.path(), "1");
    let (registry, reference, manifest) = site(&image).await;
    let (store, blob) = (FakeRegistry::start().await, manifest["layers"][0]["digest"].as_str().unwrap().to_owned());
    registry.require_tokens();
    let part = format!("/blobs/{blob}");
    registry.send_wrong(&part, WrongResponse::Redirect(format!("http://{}/store?signature=s3cret", store.address())));

    store.serve("/store", &registry.blob(&blob));
    assert!(fetch_bundle(&reference, true).await.unwrap().is_some());
    assert_eq!(store.authorizations(), [None], "the login was sent elsewhere");
    assert!(registry.authorizations().iter().flatten().any(|sent| sent == "Bearer token-to-pull"));

    store.serve("/store", &vec![0; registry.blob(&blob).len()]);
    let error = fetch_bundle(&reference, true).await.unwrap_err();
    assert!(matches!(error, RegistryError::Digest { .. }), "{error}");

    registry.send_wrong(
        "/blobs/",
        WrongResponse::Redirect(format!("http://{}/v2/loop/blobs/x?signature=s3cret", registry.address())),
    );
    let error = fetch_bundle(&reference, true).await.unwrap_err().to_string();
    assert!(error.contains("too many redirects") && !error.contains("s3cret"), "{error}");
}
