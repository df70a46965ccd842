//! No image takes the chain ID of another one. An image's author writes both its manifest (digests of compressed layers) and its
//! configuration (diff IDs), and can combine any two.

use std::fs;

use bundles::image::{ChainId, Digest};

use crate::layers::{Pull, layer};
use crate::process::Snapshotter;

const TRUST: &str = "unverified_layers = \"trust\"";

#[tokio::test]
async fn an_image_with_another_images_diff_ids_is_unpacked() {
    let mut snapshotter = Snapshotter::start(&["one"], 60_000);
    let one = snapshotter.path("one");
    let (victim, base) = (layer(&["victim"]), layer(&["base"]));
    let attack = layer(&["attack"]);
    [&victim, &attack].iter().for_each(|layer| layer.publish(&one));

    // The lowest layer, which would poison every image on the same base.
    let mut attacker = Pull::new(&snapshotter).await;
    attacker.layer_with(&attack, victim.diff_id()).await;
    // A higher layer, on a base that is not published.
    attacker.parent.clear();
    attacker.chain = None;
    attacker.layer(&base).await;
    attacker.layer_with(&attack, victim.diff_id()).await;
    assert_eq!(attacker.lazy, [false; 3]);
    // containerd compares the diff ID when it has unpacked such a layer, and fails; the stand-in did not, so it is removed.
    let mut client = attacker.client;
    let mut next = attacker.parent;
    while !next.is_empty() {
        let parent = client.stat(&next).await.unwrap().parent;
        client.remove(&next).await.unwrap();
        next = parent;
    }
    client.remove(&format!("k8s.io/2/{}", ChainId(victim.diff_id()))).await.unwrap();

    // The victim's image, in this namespace and another one.
    for namespace in ["k8s.io", "other"] {
        let mut pull = Pull::new_in(namespace, &snapshotter).await;
        pull.layer(&victim).await;
        assert_eq!(pull.lazy, [true]);
        assert_eq!(pull.container(namespace).await.tree(), ["victim=x"], "{namespace}");
    }
    let log = snapshotter.log();
    assert!(log.contains("a chain ID that is not the layer's"), "{log}");
    let counter = snapshotter.stop();
    assert_eq!((counter("layers", "mismatch"), counter("layers", "cvmfs"), counter("layers", "shared")), (2, 1, 1));
}

#[tokio::test]
async fn a_layer_is_handed_out_only_for_its_own_digest() {
    let mut snapshotter = Snapshotter::start(&["one"], 60_000);
    let (plain, recompressed) = (layer(&["file"]), layer(&["file", "file2"]));
    plain.publish(&snapshotter.path("one"));
    recompressed.publish_as(&snapshotter.path("one"), &plain.diff_id());
    let mut pull = Pull::new(&snapshotter).await;
    pull.layer(&plain).await;
    // The image says that this is the same layer, the repository that it is another one.
    let other = layer(&["other"]);
    other.publish(&snapshotter.path("one"));
    let mut second = Pull::new(&snapshotter).await;
    second.layer_with(&other, plain.diff_id()).await;
    assert_eq!(second.lazy, [false]);
    // The repository says so as well.
    let mut third = Pull::new_in("third", &snapshotter).await;
    third.layer_with(&recompressed, plain.diff_id()).await;
    assert_eq!(third.lazy, [true]);
    let counter = snapshotter.stop();
    assert_eq!((counter("layers", "shared"), counter("layers", "cvmfs"), counter("layers", "mismatch")), (0, 2, 1));
}

#[tokio::test]
async fn a_layer_without_a_diff_id_is_unpacked_unless_trusted() {
    for (more, is_lazy, origin) in [("", false, "unverified"), (TRUST, true, "cvmfs")] {
        let mut snapshotter = Snapshotter::start_with(&["one"], 60_000, more);
        let (lower, upper) = (layer(&["lower"]), layer(&["upper"]));
        lower.publish_without_diff_id(&snapshotter.path("one"));
        upper.publish(&snapshotter.path("one"));
        let mut pull = Pull::new(&snapshotter).await;
        pull.layer(&lower).await;
        assert_eq!(pull.lazy, [is_lazy], "{more}");
        // On an unpacked layer, which containerd has verified, or on a trusted one, whose chain ID nobody verified.
        pull.layer(&upper).await;
        assert_eq!(pull.lazy, [is_lazy, true], "{more}");
        assert_eq!(pull.parent.starts_with(".cvmfs-unverified/"), is_lazy);
        let warnings = snapshotter.log().matches("does not state their diff IDs").count();
        assert_eq!(warnings, usize::from(!is_lazy), "{}", snapshotter.log());
        let counter = snapshotter.stop();
        assert_eq!(counter("layers", origin), if is_lazy { 2 } else { 1 }, "{more}");
    }
}

#[tokio::test]
async fn a_trusted_layer_is_not_taken_for_another_one() {
    let mut snapshotter = Snapshotter::start_with(&["one"], 60_000, TRUST);
    let (first, second, chain) = (layer(&["first"]), layer(&["second"]), Digest::sha256(b"claimed by both"));
    first.publish_without_diff_id(&snapshotter.path("one"));
    second.publish_without_diff_id(&snapshotter.path("one"));
    let mut pull = Pull::new(&snapshotter).await;
    pull.layer_with(&first, chain).await;
    let mut again = Pull::new_in("again", &snapshotter).await;
    again.layer_with(&first, chain).await;
    let mut other = Pull::new_in("other", &snapshotter).await;
    other.layer_with(&second, chain).await;
    assert_eq!((pull.lazy, again.lazy, other.lazy), (vec![true], vec![true], vec![false]));
    // Without trust, what was trusted before is not used any more.
    let config = fs::read_to_string(snapshotter.path("config.toml")).unwrap();
    fs::write(snapshotter.path("config.toml"), config.replace(TRUST, "")).unwrap();
    snapshotter.crash_and_restart();
    let mut later = Pull::new_in("later", &snapshotter).await;
    later.layer_with(&first, chain).await;
    assert_eq!(later.lazy, [false]);
    drop(snapshotter.stop());
}
