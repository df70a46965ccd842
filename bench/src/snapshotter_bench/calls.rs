//! Timed calls of a snapshotter: of ours at its own socket, or of any snapshotter through containerd.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use containerd_client::services::v1::snapshots::snapshots_client::SnapshotsClient;
use containerd_client::services::v1::snapshots::{ListSnapshotsRequest, PrepareSnapshotRequest, RemoveSnapshotRequest};
use testbed::containerd::in_namespace;
use tonic::Code;
use tonic::transport::Channel;

use super::chain::Chain;

/// The label of a layer's Prepare with the chain ID of the snapshot.
const TARGET: &str = "containerd.io/snapshot.ref";
const DIGEST: &str = "containerd.io/snapshot/cri.layer-digest";
/// Protects a snapshot from containerd's garbage collection.
const ROOT: &str = "containerd.io/gc.root";

/// A connection to a snapshotter.
#[derive(Debug)]
pub(super) struct Snapshotter {
    client: SnapshotsClient<Channel>,
    /// Its name in containerd; ignored by the snapshotter at its own socket.
    name: String,
}

/// Latency of one container's snapshot.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pair {
    pub(super) prepare: Duration,
    pub(super) remove: Duration,
}

impl Snapshotter {
    pub(super) async fn connect(socket: &Path, name: &str) -> Result<Self> {
        let channel = containerd_client::connect(socket).await;
        let channel = channel.with_context(|| format!("cannot connect to {}", socket.display()))?;
        Ok(Self { client: SnapshotsClient::new(channel), name: name.to_owned() })
    }

    /// Creates a container's snapshot on `parent` and removes it.
    pub(super) async fn pair(&mut self, key: &str, parent: &str) -> Result<Pair> {
        let labels = [(ROOT.to_owned(), "bench".to_owned())].into();
        let (snapshotter, key, parent) = (self.name.clone(), key.to_owned(), parent.to_owned());
        let request = PrepareSnapshotRequest { snapshotter, key: key.clone(), parent, labels };
        let started = Instant::now();
        let response = self.client.prepare(in_namespace(request)).await;
        let prepare = started.elapsed();
        let mounts = response.with_context(|| format!("Prepare of {key}"))?.into_inner().mounts;
        if !mounts.iter().any(|mount| mount.r#type == "overlay") {
            bail!("{key} has no overlay mount: {mounts:?}");
        }
        let request = RemoveSnapshotRequest { snapshotter: self.name.clone(), key: key.clone() };
        let started = Instant::now();
        let response = self.client.remove(in_namespace(request)).await;
        let remove = started.elapsed();
        response.with_context(|| format!("Remove of {key}"))?;
        Ok(Pair { prepare, remove })
    }

    /// Prepares all layers from CVMFS, as a pull does; returns the name of the top layer's snapshot.
    pub(super) async fn prepare_layers(&mut self, chain: &Chain) -> Result<String> {
        let mut parent = String::new();
        for (chain_id, digest) in chain.layers()? {
            self.prepare_layer(&chain_id, &digest, &parent, &[]).await?;
            parent = self.snapshot_name(&chain_id, &parent).await?;
        }
        Ok(parent)
    }

    /// Prepares one layer from CVMFS, as a pull with these additional labels does.
    pub(super) async fn prepare_layer(
        &mut self,
        chain_id: &str,
        digest: &str,
        parent: &str,
        additional: &[(&str, String)],
    ) -> Result<()> {
        let labels = [(TARGET, chain_id.to_owned()), (DIGEST, digest.to_owned())];
        let labels = labels.iter().chain(additional).map(|(key, value)| ((*key).to_owned(), value.clone()));
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

    async fn snapshot_name(&mut self, chain_id: &str, parent: &str) -> Result<String> {
        let filters = vec![format!("labels.\"{TARGET}\"=={chain_id},parent=={parent:?}")];
        let request = ListSnapshotsRequest { snapshotter: self.name.clone(), filters };
        let mut responses = self.client.list(in_namespace(request)).await?.into_inner();
        let mut found = Vec::new();
        while let Some(response) = responses.message().await? {
            found.extend(response.info);
        }
        let only = found.pop().filter(|_| found.is_empty());
        Ok(only.with_context(|| format!("expected exactly one snapshot of layer {chain_id} on {parent:?}"))?.name)
    }
}
