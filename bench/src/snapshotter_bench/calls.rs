//! The calls of a snapshotter, timed: of the plugin at its own socket, or of any snapshotter through containerd.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use containerd_client::services::v1::snapshots::snapshots_client::SnapshotsClient;
use containerd_client::services::v1::snapshots::{ListSnapshotsRequest, PrepareSnapshotRequest, RemoveSnapshotRequest};
use testbed::containerd::in_namespace;
use tonic::Code;
use tonic::transport::Channel;

use super::chain::Chain;

/// The label by which a layer's Prepare says which snapshot it is going to be.
const TARGET: &str = "containerd.io/snapshot.ref";
const DIGEST: &str = "containerd.io/snapshot/cri.layer-digest";
/// Whoever carries it is not collected.
const ROOT: &str = "containerd.io/gc.root";

/// A connection to a snapshotter.
#[derive(Debug)]
pub(super) struct Snapshotter {
    client: SnapshotsClient<Channel>,
    /// Its name in containerd. The plugin at its own socket does not look at it.
    name: String,
}

/// What a container's snapshot took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pair {
    pub(super) prepare: Duration,
    pub(super) remove: Duration,
}

impl Snapshotter {
    pub(super) async fn connect(socket: &Path, name: &str) -> Result<Self> {
        let channel = containerd_client::connect(socket).await;
        let channel = channel.with_context(|| format!("nobody answers at {}", socket.display()))?;
        Ok(Self { client: SnapshotsClient::new(channel), name: name.to_owned() })
    }

    /// Makes a container's snapshot on `parent`, and removes it.
    pub(super) async fn pair(&mut self, key: &str, parent: &str) -> Result<Pair> {
        let labels = [(ROOT.to_owned(), "bench".to_owned())].into();
        let (snapshotter, key, parent) = (self.name.clone(), key.to_owned(), parent.to_owned());
        let request = PrepareSnapshotRequest { snapshotter, key: key.clone(), parent, labels };
        let begun = Instant::now();
        let answer = self.client.prepare(in_namespace(request)).await;
        let prepare = begun.elapsed();
        let mounts = answer.with_context(|| format!("Prepare of {key}"))?.into_inner().mounts;
        if !mounts.iter().any(|mount| mount.r#type == "overlay") {
            bail!("{key} is no snapshot on layers: {mounts:?}");
        }
        let request = RemoveSnapshotRequest { snapshotter: self.name.clone(), key: key.clone() };
        let begun = Instant::now();
        let answer = self.client.remove(in_namespace(request)).await;
        let remove = begun.elapsed();
        answer.with_context(|| format!("Remove of {key}"))?;
        Ok(Pair { prepare, remove })
    }

    /// Has the plugin take all layers from CVMFS, as a pull does; the name of the topmost.
    pub(super) async fn take(&mut self, chain: &Chain) -> Result<String> {
        let mut parent = String::new();
        for (chain_id, digest) in chain.layers()? {
            self.take_layer(&chain_id, &digest, &parent, &[]).await?;
            parent = self.name_of(&chain_id, &parent).await?;
        }
        Ok(parent)
    }

    /// Has the plugin take one layer from CVMFS, as a pull does that gives these labels, too.
    pub(super) async fn take_layer(
        &mut self,
        chain_id: &str,
        digest: &str,
        parent: &str,
        more: &[(&str, String)],
    ) -> Result<()> {
        let labels = [(TARGET, chain_id.to_owned()), (DIGEST, digest.to_owned())];
        let labels = labels.iter().chain(more).map(|(key, value)| ((*key).to_owned(), value.clone()));
        let request = PrepareSnapshotRequest {
            snapshotter: self.name.clone(),
            key: format!("k8s.io/1/extract-{chain_id}"),
            parent: parent.to_owned(),
            labels: labels.collect(),
        };
        match self.client.prepare(in_namespace(request)).await {
            Err(status) if status.code() == Code::AlreadyExists => Ok(()),
            other => bail!("layer {chain_id} did not come from CVMFS: {other:?}"),
        }
    }

    async fn name_of(&mut self, chain_id: &str, parent: &str) -> Result<String> {
        let filters = vec![format!("labels.\"{TARGET}\"=={chain_id},parent=={parent:?}")];
        let request = ListSnapshotsRequest { snapshotter: self.name.clone(), filters };
        let mut answers = self.client.list(in_namespace(request)).await?.into_inner();
        let mut found = Vec::new();
        while let Some(answer) = answers.message().await? {
            found.extend(answer.info);
        }
        let one = found.pop().filter(|_| found.is_empty());
        Ok(one.with_context(|| format!("not one snapshot is layer {chain_id} on {parent:?}"))?.name)
    }
}
