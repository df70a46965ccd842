//! Answers the calls of containerd.
//!
//! Everything that reads or writes the disk runs on blocking threads: a caller that disconnects does not interrupt it.

use std::collections::HashMap;
use std::sync::{Arc, Once};
use std::time::SystemTime;

use bundles::image::Digest;
use containerd_snapshots::api::types::Mount;
use containerd_snapshots::{Info, Snapshotter, Usage as ApiUsage, tonic};

use crate::config::{Config, UnverifiedLayers};
use crate::error::Error;
use crate::layers::{FoundLayer, NotFound, Repositories};
use crate::metrics::{LayerOrigin, Metrics};
use crate::prefetch::client::PrefetchClient;
use crate::prepare::plan::{PreparePlan, published_layers};
use crate::prepare::verify::{Verdict, verify};
use crate::prepare::{Request, local, published};
use crate::root::Root;
use crate::snapshots::Kind;
use crate::snapshots::filter::Filter;
use crate::snapshots::labels::{Labels, LayerLabels};
use crate::snapshots::state::{Existing, State, StateError};

/// The snapshotter.
#[derive(Debug)]
pub struct Service {
    root: Arc<Root>,
    repositories: Repositories,
    prefetch: PrefetchClient,
    unverified_layers: UnverifiedLayers,
    /// For one warning that containerd does not pass the digests of layers.
    digests_missing: Once,
    /// For one warning that a repository does not state the diff IDs of its layers.
    diff_ids_missing: Once,
}

impl Service {
    /// Opens the root. Must be called in a tokio runtime.
    pub fn open(config: &Config) -> Result<Self, Error> {
        let root = Arc::new(Root::open(&config.root)?);
        let repositories = Repositories::new(config, &root.store, &root.metrics);
        repositories.confirm_pending();
        let prefetch = PrefetchClient::start(config, Arc::clone(&root.metrics));
        if config.prefetch_at_start {
            root.store.read(State::images).iter().for_each(|chain_id| prefetch.image_present(chain_id));
        }
        Ok(Self {
            root,
            repositories,
            prefetch,
            unverified_layers: config.unverified_layers,
            digests_missing: Once::new(),
            diff_ids_missing: Once::new(),
        })
    }

    /// The metrics of this service.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.root.metrics
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Root) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let root = Arc::clone(&self.root);
        tokio::task::spawn_blocking(move || work(&root)).await?
    }

    /// Prepare and View. A layer that need not be unpacked is answered with `AlreadyExists`: that is containerd's protocol.
    async fn create(&self, kind: Kind, key: String, parent: String, labels: Labels) -> Result<Vec<Mount>, Error> {
        let request = Request::new(kind, key, parent, labels)?;
        let trust_unverified = self.unverified_layers == UnverifiedLayers::Trust;
        let plan = self.root.store.read(|state| PreparePlan::read(state, &request, trust_unverified))?;
        if let Some(name) = self.published_layer(&request, &plan).await? {
            return Err(StateError::AlreadyExists(name).into());
        }
        self.repositories.check_mounted(&plan.published_layers).await?;
        if let Some(chain_id) = plan.image {
            self.prefetch.container_starts(chain_id, &request.key).await;
        }
        self.blocking(move |root| local::create(root, request, plan)).await
    }

    /// If the request is for a layer that need not be unpacked, the name of the layer's committed snapshot.
    async fn published_layer(&self, request: &Request, plan: &PreparePlan) -> Result<Option<String>, Error> {
        let Some(layer) = request.layer() else { return Ok(None) };
        self.prefetch.layer_pulled(&layer);
        match &plan.existing {
            Existing::None => {}
            Existing::Layer(existing) => {
                self.root.metrics.layers.increment(LayerOrigin::Shared);
                return Ok(Some(existing.clone()));
            }
            Existing::Unverified => {
                self.root.metrics.layers.increment(LayerOrigin::Unverified);
                let chain_id = layer.chain_id;
                tracing::warn!(chain_id, "layer will be unpacked: an unverified snapshot has the same chain ID");
                return Ok(None);
            }
        }
        let Some(found) = self.find(&layer).await else { return Ok(None) };
        let verdict = verify(layer.chain_id, request.parent.as_deref(), found.diff_id);
        if !self.accepts(verdict, &layer, &found) {
            return Ok(None);
        }
        let (request, trust_unverified) = (request.clone(), self.unverified_layers == UnverifiedLayers::Trust);
        let create =
            move |root: &Root| published::create(root, request, found, verdict == Verdict::Verified, trust_unverified);
        match self.blocking(create).await {
            Ok(name) => Ok(name),
            // Anything in a repository, or in its bundles, must cost no more than an unpacked layer.
            Err(Error::Disk(error)) => {
                self.root.metrics.layers.increment(LayerOrigin::Fallback);
                tracing::warn!(%error, "layer will be unpacked: its snapshot cannot be made");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether a published layer is handed out as the requested one.
    fn accepts(&self, verdict: Verdict, layer: &LayerLabels<'_>, found: &FoundLayer) -> bool {
        let (chain_id, digest, repository) = (layer.chain_id, &found.layer.digest, &found.layer.repository);
        let origin = match (verdict, self.unverified_layers) {
            (Verdict::Verified, _) | (Verdict::Unknown, UnverifiedLayers::Trust) => return true,
            (Verdict::Unknown, UnverifiedLayers::Unpack) => {
                self.diff_ids_missing.call_once(|| {
                    tracing::warn!(
                        repository, %digest,
                        "layers of this repository are unpacked: it does not state their diff IDs in .metadata/layers.json, so the \
                         chain IDs of images cannot be verified; have the publisher add them, or set unverified_layers = \"trust\""
                    );
                });
                LayerOrigin::Unverified
            }
            (Verdict::Other, _) => {
                tracing::warn!(
                    chain_id, %digest, repository, reference = layer.reference,
                    "layer will be unpacked: the image gives it a chain ID that is not the layer's"
                );
                LayerOrigin::Mismatch
            }
        };
        self.root.metrics.layers.increment(origin);
        false
    }

    async fn find(&self, layer: &LayerLabels<'_>) -> Option<FoundLayer> {
        let Some(digest) = layer.digest else {
            self.digests_missing.call_once(|| {
                tracing::warn!(
                    "containerd does not pass the digests of layers, so no layer can be taken from CVMFS: set \
                     disable_snapshot_annotations = false in containerd's configuration of CRI; if the transfer service pulls \
                     (containerd 2.1 and later), set enable_remote_snapshot_annotations = \"true\" in the exports of this \
                     proxy plugin"
                );
            });
            return None;
        };
        let found = match digest.parse::<Digest>() {
            Ok(digest) => self.repositories.find(digest, layer.manifest).await,
            // Layers are published by SHA-256 only.
            Err(_) => Err(NotFound::Absent),
        };
        let origin = match found {
            Ok(found) => return Some(found),
            Err(NotFound::Absent) => LayerOrigin::Absent,
            Err(NotFound::Unknown) => {
                tracing::debug!(digest, "layer will be unpacked: a repository could not be read");
                LayerOrigin::Fallback
            }
        };
        self.root.metrics.layers.increment(origin);
        None
    }
}

#[tonic::async_trait]
impl Snapshotter for Service {
    type Error = Error;

    async fn stat(&self, key: String) -> Result<Info, Error> {
        let _call = self.metrics().start_call("stat");
        self.root.store.read(|state| Ok(state.get(&key)?.info(&key)))
    }

    async fn update(&self, info: Info, fieldpaths: Option<Vec<String>>) -> Result<Info, Error> {
        let _call = self.metrics().start_call("update");
        self.blocking(move |root| {
            let labels: Labels = info.labels.into_iter().collect();
            let fields = fieldpaths.unwrap_or_default();
            root.store.update(|state| {
                let change = state.update(&info.name, &labels, &fields, SystemTime::now())?;
                let updated = change.put.as_ref().map(|(name, snapshot)| snapshot.info(name));
                Ok((change, updated.unwrap_or_default()))
            })
        })
        .await
    }

    async fn usage(&self, key: String) -> Result<ApiUsage, Error> {
        let _call = self.metrics().start_call("usage");
        let usage = self.blocking(move |root| root.usage(&key)).await?;
        let number = |value| i64::try_from(value).unwrap_or(i64::MAX);
        Ok(ApiUsage { inodes: number(usage.inodes), size: number(usage.size) })
    }

    async fn mounts(&self, key: String) -> Result<Vec<Mount>, Error> {
        let _call = self.metrics().start_call("mounts");
        let (mounts, published) = self.root.store.read(|state| {
            let snapshot = state.get(&key)?;
            if snapshot.kind == Kind::Committed {
                return Err(Error::NotMountable(key.clone()));
            }
            Ok((self.root.mounts(state, snapshot)?, published_layers(&state.ancestors(snapshot)?)))
        })?;
        self.repositories.check_mounted(&published).await?;
        Ok(mounts)
    }

    async fn prepare(&self, key: String, parent: String, labels: HashMap<String, String>) -> Result<Vec<Mount>, Error> {
        let _call = self.metrics().start_call("prepare");
        self.create(Kind::Active, key, parent, labels.into_iter().collect()).await
    }

    async fn view(&self, key: String, parent: String, labels: HashMap<String, String>) -> Result<Vec<Mount>, Error> {
        let _call = self.metrics().start_call("view");
        self.create(Kind::View, key, parent, labels.into_iter().collect()).await
    }

    async fn commit(&self, name: String, key: String, labels: HashMap<String, String>) -> Result<(), Error> {
        let _call = self.metrics().start_call("commit");
        self.blocking(move |root| root.commit(&name, &key, labels.into_iter().collect())).await
    }

    async fn remove(&self, key: String) -> Result<(), Error> {
        let _call = self.metrics().start_call("remove");
        self.blocking(move |root| root.remove(&key)).await
    }

    async fn clear(&self) -> Result<(), Error> {
        let _call = self.metrics().start_call("cleanup");
        self.blocking(Root::clean_up).await
    }

    type InfoStream = tokio_stream::Iter<std::vec::IntoIter<Result<Info, Error>>>;

    async fn list(&self, _snapshotter: String, filters: Vec<String>) -> Result<Self::InfoStream, Error> {
        let _call = self.metrics().start_call("list");
        let filters = filters.iter().map(|filter| Filter::parse(filter)).collect::<Result<Vec<_>, _>>()?;
        let infos: Vec<_> = self
            .root
            .store
            .read(|state| state.list(&filters).map(|(name, snapshot)| Ok(snapshot.info(name))).collect());
        Ok(tokio_stream::iter(infos))
    }
}
