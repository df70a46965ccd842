//! Registries that lie, and one that sends its readers elsewhere.

use bundles::image::registry::artifact::BUNDLE_TYPE;
use bundles::image::registry::{RegistryError, fetch_bundle};
use bundles::publish::push;
use serde_json::{Value, json};
use testbed::images::Image;

use super::stand_in::{Lie, StandIn};
use super::{bundle, image};

/// A stand-in that holds an image and its bundle; and their manifest and the bundle's blob as they are.
async fn site(image: &Image) -> (StandIn, String, Value) {
    let stand_in = StandIn::start().await;
    let reference = stand_in.hold(image);
    let pushed = push(&bundle(image, &reference, 1), &reference, &[], true).await.unwrap();
    let digest = pushed.artifact.rsplit_once('@').unwrap().1.to_owned();
    let manifest = serde_json::from_slice(&stand_in.manifest(&digest)).unwrap();
    (stand_in, reference, manifest)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_registry_sends_is_limited_and_compared_with_its_digest() {
    let directory = tempfile::tempdir().unwrap();
    let image = image(directory.path(), "1");
    type Is = fn(&RegistryError) -> bool;
    let too_long: Is = |e| matches!(e, RegistryError::TooLong { .. });
    let digest: Is = |e| matches!(e, RegistryError::Digest { .. });
    let malformed: Is = |e| matches!(e, RegistryError::Malformed { .. });
    let (image_manifest, layer) = (format!("/manifests/{}", image.manifest_digest()), "/blobs/sha256:".to_owned());
    let cases = [
        (&layer, Lie::Other, digest),
        (&layer, Lie::HugeLength, too_long),
        (&layer, Lie::Endless, too_long),
        (&"/referrers/".to_owned(), Lie::HugeLength, too_long),
        (&"/referrers/".to_owned(), Lie::Endless, too_long),
        (&"/referrers/".to_owned(), Lie::Other, malformed),
        (&"/manifests/1".to_owned(), Lie::Endless, too_long),
        (&"/manifests/1".to_owned(), Lie::Other, malformed),
        (&"/manifests/sha256:".to_owned(), Lie::Other, digest),
        (&"/manifests/sha256:".to_owned(), Lie::Endless, too_long),
    ];
    for (place, lie, is) in cases {
        let (stand_in, reference, _) = site(&image).await;
        stand_in.lie(place, lie.clone());
        let error = fetch_bundle(&reference, true).await.unwrap_err();
        assert!(is(&error), "{lie:?} at {place}: {error}");
        assert!(stand_in.sent() < 64 << 20, "{lie:?} at {place}: {} bytes were taken", stand_in.sent());
    }
    // By digest, the image's own manifest is compared, too.
    let (stand_in, reference, _) = site(&image).await;
    stand_in.lie(&image_manifest, Lie::Other);
    let by_digest = reference.replace(":1", &format!("@{}", image.manifest_digest()));
    assert!(digest(&fetch_bundle(&by_digest, true).await.unwrap_err()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_artifact_that_is_not_the_images_bundle_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (image, other) = (image(directory.path(), "1"), super::image(directory.path(), "2"));
    let (stand_in, reference, manifest) = site(&image).await;
    let junk = stand_in.put_blob(b"no bundle");
    let others = stand_in.put_blob(&bundle(&other, &reference, 9).to_bytes().unwrap());
    let layer = |digest: &str, size: u64| json!([{"mediaType": BUNDLE_TYPE, "digest": digest, "size": size}]);
    let size = |blob: &str| stand_in.blob(blob).len() as u64;
    let of_the_bundle = manifest["layers"][0]["digest"].as_str().unwrap().to_owned();
    let cases = [
        ("/subject/digest", json!(other.manifest_digest()), "is about"),
        ("/layers", layer(&of_the_bundle, (256 << 20) + 5_000), "longer than"),
        ("/layers", layer(&of_the_bundle, 1 << 60), "longer than"),
        ("/layers", layer(&of_the_bundle, 10), "longer than the 10 bytes"),
        ("/layers", layer(&junk, size(&junk)), "cannot be used"),
        ("/layers", layer(&others, size(&others)), "is for the manifest"),
        ("/layers", json!([]), "has no layer"),
        ("/layers", json!("none"), "malformed"),
    ];
    for (place, value, said) in cases {
        let mut bad = manifest.clone();
        *bad.pointer_mut(place).unwrap() = value;
        // The list names it with more traces than the good one.
        let digest = stand_in.list(&image, &bad, 5);
        let error = fetch_bundle(&reference, true).await.unwrap_err().to_string();
        assert!(error.contains(said), "{place}: {error}");
        stand_in.forget(&digest);
    }
    assert!(fetch_bundle(&reference, true).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_followed_without_the_login_and_believed_no_more_than_the_registry() {
    let directory = tempfile::tempdir().unwrap();
    let image = image(directory.path(), "1");
    let (stand_in, reference, manifest) = site(&image).await;
    let (store, blob) = (StandIn::start().await, manifest["layers"][0]["digest"].as_str().unwrap().to_owned());
    stand_in.want_tokens();
    stand_in.lie("/blobs/", Lie::Redirect(format!("http://{}/store?signature=s3cret", store.address())));

    store.serve("/store", &stand_in.blob(&blob));
    assert!(fetch_bundle(&reference, true).await.unwrap().is_some());
    assert_eq!(store.authorizations(), [None], "the login was sent elsewhere");
    assert!(stand_in.authorizations().iter().flatten().any(|sent| sent == "Bearer token-to-pull"));

    store.serve("/store", &vec![0; stand_in.blob(&blob).len()]);
    let error = fetch_bundle(&reference, true).await.unwrap_err();
    assert!(matches!(error, RegistryError::Digest { .. }), "{error}");

    stand_in.lie("/blobs/", Lie::Redirect(format!("http://{}/v2/loop/blobs/x?signature=s3cret", stand_in.address())));
    let error = fetch_bundle(&reference, true).await.unwrap_err().to_string();
    assert!(error.contains("again and again") && !error.contains("s3cret"), "{error}");
}
