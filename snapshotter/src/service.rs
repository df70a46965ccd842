//! The answers to containerd's calls.
//!
//! Everything that touches the disk runs on blocking threads: a caller that goes away does not stop it half-way.

use std::sync::{Arc, Once};
use std::time::SystemTime;

use bundles::image::Digest;
use containerd_snapshots::api::types::Mount;
use containerd_snapshots::{Info, Snapshotter, Usage as ApiUsage, tonic};

use crate::chain::{image_of_container, is_unpacking, published_below};
use crate::config::Config;
use crate::counters::Counters;
use crate::directories::Directories;
use crate::error::Error;
use crate::filter::Filter;
use crate::hint::Hints;
use crate::idmap;
use crate::labels::{self, Labels};
use crate::layers::{Found, NotFound, Repositories};
use crate::metrics::Metrics;
use crate::overlay;
use crate::snapshot::{Content, CvmfsLayer, Kind, Snapshot, label};
use crate::state::{Change, New, State};
use crate::store::Store;
use crate::usage;
use crate::whiteouts::companion;

/// Begins the names of snapshots made here. No namespace of containerd can begin with a dot, so they are always free.
const NAME_PREFIX: &str = ".cvmfs";

/// The snapshotter.
#[derive(Debug)]
pub struct Service {
    inner: Arc<Inner>,
    repositories: Repositories,
    hints: Hints,
    counters: Arc<Counters>,
    metrics: Arc<Metrics>,
    labels_missed: Once,
}

#[derive(Debug)]
struct Inner {
    store: Arc<Store>,
    directories: Directories,
    index_off: bool,
    counters: Arc<Counters>,
}

impl Service {
    /// Opens the root and clears away what a crash left. Must be called in a tokio runtime.
    pub fn open(config: &Config) -> Result<Self, Error> {
        let counters = Arc::new(Counters::default());
        let directories = Directories::open(&config.root)?;
        let store = Arc::new(Store::open(&directories.metadata())?);
        let deadline = config.look_up_deadline();
        let repositories = Repositories::new(&config.repositories, deadline, Arc::clone(&store), Arc::clone(&counters));
        let hints = Hints::start(config, Arc::clone(&counters));
        let index_off = overlay::index_can_be_off();
        let metrics = Arc::new(Metrics::new(Arc::clone(&counters), Arc::clone(&store)));
        let inner = Inner { store, directories, index_off, counters: Arc::clone(&counters) };
        inner.clear()?;
        if config.prefetch_at_start {
            inner.store.read(State::images).iter().for_each(|chain_id| hints.present(chain_id));
        }
        Ok(Self { inner: Arc::new(inner), repositories, hints, counters, metrics, labels_missed: Once::new() })
    }

    /// The counters.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// What is served to Prometheus.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let inner = Arc::clone(&self.inner);
        let done = tokio::task::spawn_blocking(move || work(&inner)).await;
        done.map_err(|error| Error::Internal(error.to_string()))?
    }

    /// Prepare of a layer that need not be unpacked: makes the committed snapshot and says its name.
    async fn published(&self, parent: Option<&str>, labels: &Labels) -> Result<Option<String>, Error> {
        let Some(target) = labels.get(label::SNAPSHOT_REF) else { return Ok(None) };
        self.hints.pull(labels);
        let existing = self.inner.store.read(|state| state.find_layer(target, parent).map(str::to_owned));
        if existing.is_some() {
            self.counters.layers_shared.increment();
            return Ok(existing);
        }
        let Some(digest) = labels.get(label::LAYER_DIGEST) else {
            self.labels_missed.call_once(|| {
                tracing::warn!(
                    "containerd does not tell the digests of layers, so none can come from CVMFS: in its configuration \
                     of CRI, set disable_snapshot_annotations = false; if the transfer service pulls (2.1 and later), set \
                     enable_remote_snapshot_annotations = \"true\" in the exports of this proxy plugin"
                );
            });
            return Ok(None);
        };
        let manifest = labels.get(label::MANIFEST_DIGEST).and_then(|digest| digest.parse().ok());
        let found = match digest.parse::<Digest>() {
            Ok(digest) => self.repositories.find(digest, manifest).await,
            // Published by SHA-256 only.
            Err(_) => Err(NotFound::Absent),
        };
        match found {
            Ok(found) => {
                let (parent, labels) = (parent.map(str::to_owned), labels.clone());
                self.blocking(move |inner| inner.create_published(parent, labels, found)).await.map(Some)
            }
            Err(NotFound::Absent) => {
                self.counters.layers_absent.increment();
                Ok(None)
            }
            Err(NotFound::Unknown) => {
                tracing::debug!(digest, "layer unpacked because a repository could not be asked");
                self.counters.layers_fallback.increment();
                Ok(None)
            }
        }
    }

    async fn create(&self, kind: Kind, key: String, parent: String, labels: Labels) -> Result<Vec<Mount>, Error> {
        labels::check(&labels)?;
        let root = idmap::root_of(&labels)?;
        let parent = Some(parent).filter(|parent| !parent.is_empty());
        let image = self.inner.store.read(|state| {
            state.check_new(&key, parent.as_deref())?;
            // What a container in a user namespace is based on holds copies of all files.
            let is_container = kind == Kind::Active && root.is_none();
            Ok::<_, Error>(if is_container { image_of_container(state, &key, parent.as_deref()) } else { None })
        })?;
        if kind == Kind::Active
            && let Some(name) = self.published(parent.as_deref(), &labels).await?
        {
            return Err(Error::AlreadyExists(name));
        }
        // To unpack a layer, the layers below it need not be mounted.
        if !is_unpacking(&key) {
            let published = self.inner.store.read(|state| published_below(state, parent.as_deref()))?;
            self.repositories.check_mounted(&published).await?;
        }
        if let Some(chain_id) = image {
            self.hints.start_of_container(chain_id, &key).await;
        }
        self.blocking(move |inner| inner.create_local(kind, &key, parent, labels, root)).await
    }
}

impl Inner {
    fn mounts(&self, state: &State, snapshot: &Snapshot) -> Result<Vec<Mount>, Error> {
        Ok(overlay::mounts(snapshot, &state.ancestors(snapshot)?, &self.directories, self.index_off))
    }

    /// `root` is who owns the root directory of a container in a user namespace.
    fn create_local(
        &self,
        kind: Kind,
        key: &str,
        parent: Option<String>,
        labels: Labels,
        root: Option<(u32, u32)>,
    ) -> Result<Vec<Mount>, Error> {
        let on = parent.as_deref().map(|parent| self.store.read(|state| state.get(parent).cloned())).transpose()?;
        let owner = on.as_ref().map(|parent| self.directories.owner(parent)).transpose()?;
        if let (Some(root), Some(parent), Some(owner)) = (root, &on, owner)
            && !idmap::is_shifted(owner, parent.layerfs().is_none(), root)
        {
            return Err(Error::Unimplemented(format!(
                "snapshot {key:?} is for a user namespace, and this snapshotter cannot shift the owners of files; containerd \
                 can: take the capability remap-ids out of the entry in its proxy_plugins (ctr: leave out --remap-labels)"
            )));
        }
        let owner = owner.or(root);
        self.with_directory(|id| {
            self.directories.make_local(id, kind, owner)?;
            let new = New { id, kind, parent, labels, content: Content::Local, now: SystemTime::now() };
            self.store.update(|state| {
                let change = state.create(key, new)?;
                let mounts = match &change.put {
                    Some((_, snapshot)) => self.mounts(state, snapshot)?,
                    None => Vec::new(),
                };
                Ok((change, mounts))
            })
        })
    }

    fn create_published(&self, parent: Option<String>, labels: Labels, found: Found) -> Result<String, Error> {
        let target = labels.get(label::SNAPSHOT_REF).cloned().unwrap_or_default();
        let digest = labels.get(label::LAYER_DIGEST).and_then(|digest| digest.parse().ok());
        let digest = digest.ok_or_else(|| Error::Internal("a layer without digest was found".to_owned()))?;
        let Found { repository, layerfs, examined } = found;
        let whiteouts = &examined.whiteouts;
        let layer = CvmfsLayer {
            repository,
            digest,
            layerfs,
            owner: examined.owner,
            companion_above: whiteouts.any(),
            companion_below: whiteouts.delete(),
        };
        let name = self.with_directory(|id| {
            let directories = &self.directories;
            directories.make_published(id, &layer.layerfs, layer.companion_below)?;
            let path = directories.above(id);
            companion::fill_above(whiteouts, &path).map_err(Error::disk("fill the companion", path))?;
            if layer.companion_below {
                let path = directories.below(id);
                companion::fill_below(whiteouts, &path).map_err(Error::disk("fill the companion", path))?;
            }
            let name = format!("{NAME_PREFIX}/{id}/{target}");
            let (kind, content) = (Kind::Committed, Content::Cvmfs(layer.clone()));
            let new = New { id, kind, parent: parent.clone(), labels, content, now: SystemTime::now() };
            self.store.update(|state| match state.find_layer(&target, parent.as_deref()) {
                Some(existing) => Ok((Change::default(), existing.to_owned())),
                None => Ok((state.create(&name, new)?, name)),
            })
        })?;
        self.counters.layers_from_cvmfs.increment();
        tracing::info!(chain_id = target, repository = layer.repository, digest = %layer.digest, "layer from CVMFS");
        Ok(name)
    }

    /// Runs `make` with a new id. If no snapshot has that id in the end, its directory goes again.
    fn with_directory<T>(&self, make: impl FnOnce(u64) -> Result<T, Error>) -> Result<T, Error> {
        let reservation = self.store.reserve();
        let result = make(reservation.id());
        let id = reservation.id();
        drop(reservation);
        if !self.store.known().contains(&id) {
            self.delete(id);
        }
        result
    }

    /// Deletes what a removed snapshot has on disk. What cannot be deleted now is tried again by `clear`.
    fn delete(&self, id: u64) {
        if let Err(error) = self.directories.remove(id) {
            self.counters.removals_deferred.increment();
            tracing::warn!(%error, "left-overs of a removed snapshot; the next clean-up tries again");
        }
    }

    fn clear(&self) -> Result<(), Error> {
        // In this order: a directory made after the listing is not in it.
        let present = self.directories.ids()?;
        let known = self.store.known();
        for id in present.into_iter().filter(|id| !known.contains(id)) {
            self.delete(id);
        }
        Ok(())
    }

    fn commit(&self, name: &str, key: &str, labels: Labels) -> Result<(), Error> {
        labels::check(&labels)?;
        let active = self.store.read(|state| state.check_commit(key, name).cloned())?;
        let files = self.directories.files(active.id);
        let usage = usage::of_directory(&files).map_err(Error::disk("measure", files))?;
        self.store.update(|state| Ok((state.commit(key, name, labels, usage, SystemTime::now())?, ())))
    }

    fn usage(&self, key: &str) -> Result<crate::snapshot::Usage, Error> {
        let snapshot = self.store.read(|state| state.get(key).cloned())?;
        if snapshot.kind != Kind::Active {
            return Ok(snapshot.usage);
        }
        let files = self.directories.files(snapshot.id);
        usage::of_directory(&files).map_err(Error::disk("measure", files))
    }
}

#[tonic::async_trait]
impl Snapshotter for Service {
    type Error = Error;

    async fn stat(&self, key: String) -> Result<Info, Error> {
        let _timed = self.metrics.begin("stat");
        self.inner.store.read(|state| Ok(state.get(&key)?.info(&key)))
    }

    async fn update(&self, info: Info, fieldpaths: Option<Vec<String>>) -> Result<Info, Error> {
        let _timed = self.metrics.begin("update");
        self.blocking(move |inner| {
            let labels: Labels = info.labels.into_iter().collect();
            let fields = fieldpaths.unwrap_or_default();
            inner.store.update(|state| {
                let change = state.update(&info.name, &labels, &fields, SystemTime::now())?;
                let updated = change.put.as_ref().map(|(name, snapshot)| snapshot.info(name));
                Ok((change, updated.unwrap_or_default()))
            })
        })
        .await
    }

    async fn usage(&self, key: String) -> Result<ApiUsage, Error> {
        let _timed = self.metrics.begin("usage");
        let usage = self.blocking(move |inner| inner.usage(&key)).await?;
        let number = |value| i64::try_from(value).unwrap_or(i64::MAX);
        Ok(ApiUsage { inodes: number(usage.inodes), size: number(usage.size) })
    }

    async fn mounts(&self, key: String) -> Result<Vec<Mount>, Error> {
        let _timed = self.metrics.begin("mounts");
        let (mounts, published) = self.inner.store.read(|state| {
            let snapshot = state.get(&key)?;
            if snapshot.kind == Kind::Committed {
                return Err(Error::FailedPrecondition(format!("snapshot {key:?} is neither active nor a view")));
            }
            Ok((self.inner.mounts(state, snapshot)?, published_below(state, snapshot.parent.as_deref())?))
        })?;
        self.repositories.check_mounted(&published).await?;
        Ok(mounts)
    }

    async fn prepare(
        &self,
        key: String,
        parent: String,
        labels: std::collections::HashMap<String, String>,
    ) -> Result<Vec<Mount>, Error> {
        let _timed = self.metrics.begin("prepare");
        self.create(Kind::Active, key, parent, labels.into_iter().collect()).await
    }

    async fn view(
        &self,
        key: String,
        parent: String,
        labels: std::collections::HashMap<String, String>,
    ) -> Result<Vec<Mount>, Error> {
        let _timed = self.metrics.begin("view");
        self.create(Kind::View, key, parent, labels.into_iter().collect()).await
    }

    async fn commit(
        &self,
        name: String,
        key: String,
        labels: std::collections::HashMap<String, String>,
    ) -> Result<(), Error> {
        let _timed = self.metrics.begin("commit");
        self.blocking(move |inner| inner.commit(&name, &key, labels.into_iter().collect())).await
    }

    async fn remove(&self, key: String) -> Result<(), Error> {
        let _timed = self.metrics.begin("remove");
        self.blocking(move |inner| {
            let removed = inner.store.update(|state| state.remove(&key))?;
            inner.delete(removed.id);
            Ok(())
        })
        .await
    }

    async fn clear(&self) -> Result<(), Error> {
        let _timed = self.metrics.begin("cleanup");
        self.blocking(Inner::clear).await
    }

    type InfoStream = tokio_stream::Iter<std::vec::IntoIter<Result<Info, Error>>>;

    async fn list(&self, _snapshotter: String, filters: Vec<String>) -> Result<Self::InfoStream, Error> {
        let _timed = self.metrics.begin("list");
        let filters: Result<Vec<_>, _> = filters.iter().map(|filter| Filter::parse(filter)).collect();
        let filters = filters.map_err(|error| Error::InvalidArgument(error.to_string()))?;
        let infos: Vec<_> = self
            .inner
            .store
            .read(|state| state.list(&filters).map(|(name, snapshot)| Ok(snapshot.info(name))).collect());
        Ok(tokio_stream::iter(infos))
    }
}
