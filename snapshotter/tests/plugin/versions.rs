//! Pulls as several versions of containerd do them. The messages were written after containerd's sources, which
//! `docs/src/snapshotter.md` lists, because only one version can be installed on a machine.

use std::fs;

use crate::layers::{Layer, Pull, chains, layer};
use crate::process::Snapshotter;

const MANIFEST: &str = "sha256:3333333333333333333333333333333333333333333333333333333333333333";
const REFERENCE: &str = "registry.example.org/physics/root:6.32";

/// The requests of one version for each layer.
struct Version {
    name: &'static str,
    /// containerd's namespace, the beginning of its keys.
    namespace: &'static str,
    /// The part of the key before the chain ID: nanoseconds and three bytes in base64.
    unique: &'static str,
    annotations: Annotations,
    lazy: bool,
}

/// Which annotations of the layer containerd passes on as labels.
#[derive(Clone, Copy)]
enum Annotations {
    None,
    /// `pkg/snapshotters/annotations.go`; the same in all versions.
    Cri,
    /// The same and others that begin with `containerd.io/snapshot/`, which a publisher may have set.
    CriAndOthers,
}

const VERSIONS: [Version; 6] = [
    Version {
        name: "1.6 and 1.7, CRI with disable_snapshot_annotations = false",
        namespace: "k8s.io",
        unique: "123456789-A_-9",
        annotations: Annotations::Cri,
        lazy: true,
    },
    Version {
        name: "1.6 and 1.7, CRI's default",
        namespace: "k8s.io",
        unique: "5-AAAA",
        annotations: Annotations::None,
        lazy: false,
    },
    Version {
        name: "1.7 and 2.0, nerdctl",
        namespace: "default",
        unique: "999999999-____",
        annotations: Annotations::Cri,
        lazy: true,
    },
    Version {
        name: "2.x, CRI, local pull",
        namespace: "k8s.io",
        unique: "0-a-_b",
        annotations: Annotations::Cri,
        lazy: true,
    },
    Version {
        name: "2.1, transfer service, enable_remote_snapshot_annotations",
        namespace: "k8s.io",
        unique: "42-----",
        annotations: Annotations::CriAndOthers,
        lazy: true,
    },
    Version {
        name: "2.1, transfer service's default, and ctr",
        namespace: "default",
        unique: "7-zzzz",
        annotations: Annotations::None,
        lazy: false,
    },
];

impl Version {
    fn key(&self, sequence: usize, chain: &str) -> String {
        format!("{}/{sequence}/extract-{} {chain}", self.namespace, self.unique)
    }

    /// The labels of layer `index`; the layers still to come are one of them.
    fn labels(&self, layers: &[Layer], index: usize) -> Vec<(&'static str, String)> {
        let digests: Vec<String> = layers[index..].iter().map(|layer| layer.digest.to_string()).collect();
        let mut labels = vec![("containerd.io/snapshot.ref", chains(layers)[index].clone())];
        let cri = [
            ("containerd.io/snapshot/cri.image-ref", REFERENCE.to_owned()),
            ("containerd.io/snapshot/cri.manifest-digest", MANIFEST.to_owned()),
            ("containerd.io/snapshot/cri.layer-digest", digests[0].clone()),
            ("containerd.io/snapshot/cri.image-layers", digests.join(",")),
        ];
        match self.annotations {
            Annotations::None => {}
            Annotations::Cri => labels.extend(cri),
            Annotations::CriAndOthers => {
                labels.extend(cri);
                labels.push(("containerd.io/snapshot/example.org/other", "value".to_owned()));
            }
        }
        labels
    }
}

#[tokio::test]
async fn layers_come_from_cvmfs_if_containerd_passes_digests() {
    let layers = [layer(&["etc/passwd", "gone"]), layer(&[".wh.gone", "srv/data"])];
    let unpacked = [layer(&["etc/passwd", "gone"]), layer(&["srv/data"])];
    for version in VERSIONS {
        let mut snapshotter = Snapshotter::start(&["one"], 60_000);
        fs::create_dir_all(snapshotter.path("one/.layers")).unwrap();
        layers.iter().for_each(|layer| layer.publish(&snapshotter.path("one")));
        let mut pull = Pull::new(&snapshotter).await;
        for (index, chain) in chains(&layers).iter().enumerate() {
            let labels = version.labels(&layers, index);
            let labels: Vec<(&str, &str)> = labels.iter().map(|(key, value)| (*key, value.as_str())).collect();
            pull.layer_by(&version.key(index + 1, chain), &labels, chain, &unpacked[index]).await;
        }
        assert_eq!(pull.lazy, [version.lazy; 2], "{}", version.name);
        let expected: &[&str] = if version.lazy {
            &["etc/", "etc/passwd=x", "srv/", "srv/data=x"]
        } else {
            &["etc/", "etc/passwd=x", "gone=x", "srv/", "srv/data=x"]
        };
        let container = pull.container("container").await;
        assert_eq!(container.tree(), expected, "{}", version.name);
        drop(container);
        // Removing the image, topmost layer first, as garbage collection does.
        pull.client.remove("k8s.io/9/container").await.unwrap();
        let mut next = pull.parent.clone();
        while !next.is_empty() {
            let info = pull.client.stat(&next).await.unwrap();
            pull.client.remove(&next).await.unwrap();
            next = info.parent;
        }
        pull.client.cleanup().await.unwrap();
        drop(pull);
        assert!(snapshotter.names("snapshots").is_empty(), "{}", version.name);
        let counter = snapshotter.stop();
        assert_eq!(counter("layers", "cvmfs"), if version.lazy { 2 } else { 0 }, "{}", version.name);
    }
}
