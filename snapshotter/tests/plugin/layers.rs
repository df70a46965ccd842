//! Layers from CVMFS. Plain directories stand for mounted repositories; the end-to-end tests use real ones.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bundles::image::{ChainId, Digest};
use containerd_snapshots::tonic::Code;

use crate::mounted::Mounted;
use crate::process::{Client, Snapshotter};

/// A layer of an image; every file has the content `x`.
pub(crate) struct Layer {
    pub(crate) digest: Digest,
    files: &'static [&'static str],
}

pub(crate) fn layer(files: &'static [&'static str]) -> Layer {
    Layer { digest: Digest::sha256(files.join("\n").as_bytes()), files }
}

impl Layer {
    fn write(&self, root: &Path) {
        fs::create_dir_all(root).unwrap();
        for path in self.files {
            fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            fs::write(root.join(path), "x").unwrap();
        }
    }

    /// Its path in a repository.
    pub(crate) fn layerfs(&self, mount: &Path) -> PathBuf {
        let hex = self.digest.hex();
        mount.join(".layers").join(&hex[..2]).join(&hex).join("layerfs")
    }

    /// A digest that stands for that of the uncompressed layer.
    pub(crate) fn diff_id(&self) -> Digest {
        Digest::sha256(format!("uncompressed {}", self.digest).as_bytes())
    }

    /// Publishes it as DUCC does, with its diff ID.
    pub(crate) fn publish(&self, mount: &Path) {
        self.publish_as(mount, &self.diff_id());
    }

    /// Publishes it with this diff ID.
    pub(crate) fn publish_as(&self, mount: &Path, diff_id: &Digest) {
        self.publish_without_diff_id(mount);
        let metadata = self.layerfs(mount).with_file_name(".metadata");
        fs::create_dir_all(&metadata).unwrap();
        let text = format!(r#"[{{"compressed-diff-digest":"{}","diff-digest":"{diff_id}"}}]"#, self.digest);
        fs::write(metadata.join("layers.json"), text).unwrap();
    }

    /// Publishes it as a plain `cvmfs_server ingest` does.
    pub(crate) fn publish_without_diff_id(&self, mount: &Path) {
        self.write(&self.layerfs(mount));
    }
}

/// The chain IDs of these layers, from the lowest to the topmost.
pub(crate) fn chains(layers: &[Layer]) -> Vec<String> {
    let diff_ids: Vec<Digest> = layers.iter().map(Layer::diff_id).collect();
    (1..=layers.len()).map(|count| ChainId::from_diff_ids(&diff_ids[..count]).unwrap().to_string()).collect()
}

/// A pull of an image, as containerd does it layer by layer.
pub(crate) struct Pull<'a> {
    snapshotter: &'a Snapshotter,
    pub(crate) client: Client,
    /// For each layer, whether it was not unpacked.
    pub(crate) lazy: Vec<bool>,
    pub(crate) parent: String,
    /// Chain ID of the parent.
    pub(crate) chain: Option<ChainId>,
    /// containerd's namespace.
    namespace: &'static str,
}

impl<'a> Pull<'a> {
    pub(crate) async fn new(snapshotter: &'a Snapshotter) -> Self {
        Self::new_in("k8s.io", snapshotter).await
    }

    pub(crate) async fn new_in(namespace: &'static str, snapshotter: &'a Snapshotter) -> Self {
        let client = snapshotter.connect().await;
        Self { snapshotter, client, lazy: Vec::new(), parent: String::new(), chain: None, namespace }
    }

    /// Pulls a layer of an image whose configuration is true.
    pub(crate) async fn layer(&mut self, layer: &Layer) {
        self.layer_with(layer, layer.diff_id()).await;
    }

    /// Pulls a layer that has this diff ID in the image's configuration.
    pub(crate) async fn layer_with(&mut self, layer: &Layer, diff_id: Digest) {
        let chain_id = ChainId::of_layer(self.chain, diff_id);
        self.chain = Some(chain_id);
        let chain = &chain_id.to_string();
        let key = format!("{}/1/extract-{chain}", self.namespace);
        let digest = layer.digest.to_string();
        let labels = [
            ("containerd.io/snapshot.ref", chain.as_str()),
            ("containerd.io/snapshot/cri.layer-digest", digest.as_str()),
            ("containerd.io/snapshot/cri.manifest-digest", digest.as_str()),
        ];
        self.layer_by(&key, &labels, chain, layer).await;
    }

    /// Pulls a layer by a Prepare with this key and these labels.
    pub(crate) async fn layer_by(&mut self, key: &str, labels: &[(&str, &str)], chain: &str, layer: &Layer) {
        match self.client.prepare(key, &self.parent, labels).await {
            Ok(mounts) => {
                layer.write(Mounted::new(self.snapshotter.path("unpack"), &mounts).path());
                let name = format!("{}/2/{chain}", self.namespace);
                self.client.commit(key, &name, labels).await.unwrap();
                self.lazy.push(false);
                self.parent = name;
            }
            Err(Code::AlreadyExists) => {
                let filter = format!(r#"labels."containerd.io/snapshot.ref"=={chain},parent=={:?}"#, self.parent);
                let found = self.client.list(&[&filter]).await.unwrap();
                // containerd takes the first committed one.
                let info = found.iter().find(|info| info.kind == 3).unwrap_or_else(|| panic!("{filter}: {found:?}"));
                assert_eq!(info.parent, self.parent);
                assert_eq!(self.client.stat(&info.name).await.as_ref(), Ok(info));
                self.lazy.push(true);
                self.parent = info.name.clone();
            }
            Err(code) => panic!("{code:?}"),
        }
    }

    pub(crate) async fn container(&mut self, id: &str) -> Mounted {
        let mounts = self.client.prepare(&format!("k8s.io/9/{id}"), &self.parent, &[]).await.unwrap();
        Mounted::new(self.snapshotter.path(id), &mounts)
    }
}

pub(crate) fn image() -> [Layer; 3] {
    [
        layer(&["a/kept", "a/gone", "opaque/old", "top"]),
        layer(&["a/.wh.gone", "opaque/.wh..wh..opq", "opaque/new", "b/x"]),
        layer(&["b/.wh.x", "b/y", ".wh.top"]),
    ]
}

#[tokio::test]
async fn an_image_is_the_same_whichever_layers_are_published() {
    let layers = image();
    for published in 0..8_u8 {
        // containerd converts whiteouts into overlayfs's own when it unpacks a layer. That is not done here, so an unpacked
        // layer must have none.
        let without_whiteouts = [layer(layers[0].files), layer(&["opaque/new", "b/x"]), layer(&["b/y"])];
        let is_published = |index: usize| published >> index & 1 == 1;
        let mut snapshotter = Snapshotter::start(&["one"], 60_000);
        fs::create_dir_all(snapshotter.path("one/.layers")).unwrap();
        let mut pull = Pull::new(&snapshotter).await;
        let mut expected = vec!["a/", "a/gone=x", "a/kept=x", "b/", "b/y=x", "opaque/", "opaque/new=x"];
        if !is_published(1) {
            expected.extend(["opaque/old=x"]);
        } else {
            expected.retain(|path| *path != "a/gone=x");
        }
        if !is_published(2) {
            expected.extend(["b/x=x", "top=x"]);
        }
        expected.sort_unstable();
        for index in 0..3 {
            if is_published(index) {
                layers[index].publish(&snapshotter.path("one"));
                pull.layer(&layers[index]).await;
            } else {
                pull.layer(&without_whiteouts[index]).await;
            }
        }
        assert_eq!(pull.lazy, [0, 1, 2].map(is_published));
        let parent = pull.parent;
        snapshotter.crash_and_restart();
        let mut pull = Pull { parent, ..Pull::new(&snapshotter).await };
        let container = pull.container("container").await;
        assert_eq!(container.tree(), expected, "published: {published:03b}");
        fs::write(container.path().join("a/kept"), "changed").unwrap();
        fs::remove_dir_all(container.path().join("opaque")).unwrap();
        drop(container);
        let other = pull.container("other").await;
        assert_eq!(other.tree(), expected, "published: {published:03b}, after writes in another container");
        drop(other);
        let view = pull.client.view("view", &pull.parent).await.unwrap();
        assert_eq!(Mounted::new(snapshotter.path("view"), &view).tree(), expected, "published: {published:03b}");
    }
}

#[tokio::test]
async fn a_layer_is_shared_and_can_be_removed() {
    let mut snapshotter = Snapshotter::start(&["one"], 60_000);
    let layers = image();
    layers.iter().for_each(|layer| layer.publish(&snapshotter.path("one")));
    for round in 0..2 {
        let mut first = Pull::new(&snapshotter).await;
        let mut second = Pull::new(&snapshotter).await;
        for layer in &layers {
            first.layer(layer).await;
            second.layer(layer).await;
            assert_eq!(first.parent, second.parent);
        }
        // The same layer once more, at the top of another image.
        second.layer(&layers[0]).await;
        let tree = second.container(&format!("again{round}")).await.tree();
        assert!(tree.contains(&"a/gone=x".to_owned()) && tree.contains(&"top=x".to_owned()), "{tree:?}");
        let mut client = first.client;
        client.remove(&format!("k8s.io/9/again{round}")).await.unwrap();
        let mut name = second.parent;
        while !name.is_empty() {
            let parent = client.stat(&name).await.unwrap().parent;
            client.remove(&name).await.unwrap();
            name = parent;
        }
        assert!(client.list(&[]).await.unwrap().is_empty());
        assert!(snapshotter.names("snapshots").is_empty() && snapshotter.names("l").is_empty());
    }
    let counter = snapshotter.stop();
    assert_eq!((counter("layers", "cvmfs"), counter("layers", "shared"), counter("layers", "absent")), (8, 6, 0));
}

#[tokio::test]
async fn with_a_hung_or_dead_mount_layers_are_unpacked() {
    let mut snapshotter = Snapshotter::start(&["hangs", "works"], 300);
    let layers = image();
    layers[0].publish(&snapshotter.path("works"));
    fs::create_dir_all(snapshotter.path("works/.layers")).unwrap();
    let (mounted, device) = Mounted::hanging(snapshotter.path("hangs"));
    let plain = layer(&["b/y"]);
    let mut pull = Pull::new(&snapshotter).await;
    // Only the first lookup waits until its timeout; the others are skipped because it hangs.
    pull.layer(&layers[0]).await;
    pull.layer(&plain).await;
    assert_eq!(pull.lazy, [true, false]);
    assert_eq!(pull.container("container").await.tree().len(), 8);
    // Without a server, the mount returns errors at once; but the hung thread has to return first.
    drop(device);
    let end = Instant::now() + Duration::from_secs(60);
    let digest = plain.digest.to_string();
    let mut prepared = 0;
    while !snapshotter.log().contains("os error") {
        let chain = format!("sha256:{prepared}");
        let labels =
            [("containerd.io/snapshot.ref", chain.as_str()), ("containerd.io/snapshot/cri.layer-digest", &digest)];
        pull.client.prepare(&format!("k8s.io/1/extract-{prepared}"), "", &labels).await.unwrap();
        prepared += 1;
        assert!(Instant::now() < end, "{}", snapshotter.log());
    }
    assert_eq!(snapshotter.log().matches(" WARN ").count(), 1, "one warning: {}", snapshotter.log());
    drop(mounted);
    let counter = snapshotter.stop();
    assert_eq!(counter("failed_lookups", "timeout"), 1);
    assert!(counter("failed_lookups", "skipped") >= 1 && counter("failed_lookups", "error") >= 1);
    assert_eq!(counter("layers", "fallback"), 1 + prepared);
}
