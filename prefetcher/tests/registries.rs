//! Bundles beside their images in a registry: which one is used, when that changes, and how rarely the daemon queries the registry.

#![allow(clippy::unwrap_used)]

mod site;

use api::proto::{Image, RequestState, RequestStatus};
use bundles::bundle::Bundle;
use bundles::image::{ChainId, Digest, ImageId};
use bundles::registry::artifact::bundle_tag;

use site::{Daemon, Object, Origin, Registry, Site, by_chain, objects, tally};

/// How the snapshotter asks for the image: all of its names.
fn by_all_names(image: &ImageId) -> Image {
    Image {
        chain_id: image.chain_id.to_string(),
        manifest_digest: image.manifest.unwrap().to_string(),
        reference: image.reference.clone(),
        ..Image::default()
    }
}

fn bundle(image: &ImageId, objects: &[Object]) -> Bundle {
    Bundle { image: image.clone(), ..site::bundle("image", objects) }
}

/// With a timeout that a busy machine does not reach.
fn config(registry: &Registry) -> String {
    format!("registries = [{:?}]\nlookup_timeout = \"60s\"", registry.host())
}

async fn start(site: &Site, origin: &Origin, registry: &Registry) -> Daemon {
    Daemon::start_with(site, &[origin], &config(registry)).await
}

fn is_from_registry(status: &RequestStatus) -> bool {
    status.state() == RequestState::Done && status.bundle_source.starts_with("registry ")
}

#[tokio::test(flavor = "multi_thread")]
async fn replaced_and_removed_bundles_of_a_registry_are_noticed() {
    let (site, wanted, registry) = (Site::new(), objects(1, 5), Registry::start().await);
    let origin = Origin::start(&wanted).await;
    let image = by_all_names(&registry.image);
    let (tag, manifest) = (bundle_tag(&registry.image.manifest.unwrap()), registry.image.manifest.unwrap());
    registry.attach(&bundle(&registry.image, &wanted[..2]));
    {
        let daemon = start(&site, &origin, &registry).await;
        let status = daemon.prefetch(image.clone()).await;
        assert!(is_from_registry(&status) && tally(&status).total_objects == 2, "{status:?}");
        let log = registry.take_log();
        assert_eq!(log[..2], [format!("HEAD {manifest}"), format!("HEAD {tag}")]);
        assert_eq!(log[2..].iter().filter(|line| line.starts_with("GET")).count(), 4, "{log:?}");
        // Within an hour the registry is not asked again.
        registry.attach(&bundle(&registry.image, &wanted));
        let status = daemon.prefetch(image.clone()).await;
        assert_eq!((status.bundle_source.as_str(), registry.take_log()), ("store", vec![]));
    }
    // The hour is not remembered over a restart.
    {
        let daemon = start(&site, &origin, &registry).await;
        let status = daemon.prefetch(image.clone()).await;
        assert!(is_from_registry(&status) && tally(&status).total_objects == 5, "{status:?}");
        assert_eq!(registry.take_log()[0], format!("HEAD {tag}"), "one request shows that there is another");
    }
    {
        let daemon = start(&site, &origin, &registry).await;
        let status = daemon.prefetch(by_chain(&bundle(&registry.image, &[]))).await;
        assert_eq!((status.bundle_source.as_str(), tally(&status).cached_objects), ("store", 5));
        assert_eq!(registry.take_log(), [format!("HEAD {tag}")], "it is still the same");
    }
    registry.detach();
    let daemon = start(&site, &origin, &registry).await;
    let status = daemon.prefetch(image).await;
    assert_eq!(status.state(), RequestState::NoBundle, "{status:?}");
    assert!(daemon.client.list().await.unwrap().bundles.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_with_a_foreign_chain_id_is_refused_and_not_stored() {
    let (site, wanted, registry) = (Site::new(), objects(2, 4), Registry::start().await);
    let origin = Origin::start(&wanted).await;
    let daemon = start(&site, &origin, &registry).await;
    // The image of somebody else has a bundle in the store.
    let victim = site::bundle("victim", &wanted[..1]);
    site.publish(&victim);
    assert_eq!(daemon.prefetch_bundle(&victim).await.state(), RequestState::Done);
    std::fs::remove_dir_all(site.mount()).unwrap();
    std::fs::create_dir(site.mount()).unwrap();
    // A bundle beside the attacker's image names the victim's chain ID.
    let foreign = ImageId { chain_id: victim.image.chain_id, ..registry.image.clone() };
    registry.attach(&bundle(&foreign, &wanted));
    let by_manifest = Image { chain_id: String::new(), ..by_all_names(&registry.image) };
    for image in [by_manifest, by_all_names(&registry.image)] {
        let status = daemon.prefetch(image).await;
        assert_eq!(status.state(), RequestState::Failed, "{status:?}");
        assert!(status.error.contains("chain ID") && status.error.contains("build it again"), "{}", status.error);
    }
    let status = daemon.prefetch_bundle(&victim).await;
    assert_eq!((status.bundle_source.as_str(), tally(&status).total_objects), ("store", 1), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absent_bundle_is_looked_up_once_an_hour_without_a_pull() {
    let (site, wanted, registry) = (Site::new(), objects(3, 1), Registry::start().await);
    let origin = Origin::start(&wanted).await;
    let more = format!("{}\nrevision_check_interval = \"1s\"", config(&registry));
    xattr::set(site.mount(), "user.revision", b"1").unwrap();
    std::fs::create_dir(site.mount().join(".bundles")).unwrap();
    let daemon = Daemon::start_with(&site, &[&origin], &more).await;
    let image = by_all_names(&registry.image);
    assert_eq!(daemon.prefetch(image.clone()).await.state(), RequestState::NoBundle);
    assert!(registry.take_log().iter().all(|line| line.starts_with("HEAD ")), "no pulls");
    assert_eq!(daemon.prefetch(image.clone()).await.state(), RequestState::NoBundle);
    // Nor does a new revision of a repository, with a bundle for another image, lead to a question.
    let published = bundle(&ImageId { chain_id: ChainId(Digest::sha256(b"x")), ..registry.image.clone() }, &wanted);
    let other = Image { reference: registry.image.reference.clone(), ..by_chain(&published) };
    assert_eq!(daemon.prefetch(other).await.state(), RequestState::NoBundle);
    registry.take_log();
    site.publish(&Bundle { image: ImageId { manifest: None, ..published.image.clone() }, ..published });
    xattr::set(site.mount(), "user.revision", b"2").unwrap();
    site::until("the image is renewed", || daemon.log().contains("new bundle for an image")).await;
    assert_eq!(registry.take_log(), [""; 0]);
    // A command makes it forget.
    daemon.client.remove_bundles(image.clone()).await.unwrap();
    registry.attach(&bundle(&registry.image, &wanted));
    assert!(is_from_registry(&daemon.prefetch(image).await));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_demands_a_pause_gets_it() {
    let (site, wanted, registry) = (Site::new(), objects(4, 1), Registry::start().await);
    let origin = Origin::start(&wanted).await;
    let daemon = start(&site, &origin, &registry).await;
    registry.answer_too_many_requests("3000");
    for name in ["one", "two"] {
        let reference = registry.image.reference.replace("image", name);
        let image = Image { reference, ..by_chain(&site::bundle(name, [])) };
        let status = daemon.prefetch(image).await;
        assert_eq!(status.state(), RequestState::NoBundle);
        assert!(status.error.contains("429"), "{}", status.error);
    }
    assert_eq!(registry.take_log().len(), 1, "the pause is for the whole registry");
}
