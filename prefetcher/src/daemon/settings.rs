//! Finds out how the repositories are served, and keeps that current while the daemon runs.
//!
//! The settings are read when the daemon starts, which can take long after a boot. They are read again on SIGHUP, when the
//! client's configuration has changed, and at the same interval as long as a part of them could not be read. Requests that are
//! under way keep the settings that they began with. A repository that cannot be served leaves the others.

use std::sync::Arc;
use std::time::Duration;

use node::cvmfs_client::changes::Fingerprint;
use node::cvmfs_client::parameters::ClientConfiguration;
use tokio::sync::Semaphore;
use tokio::task::JoinError;
use tracing::{info, warn};

use super::{Daemon, SettingsUnusable};
use crate::cache::{CacheError, mount_reader};
use crate::config::Config;
use crate::delivery;
use crate::fetch::Fetcher;
use crate::mount::page_cache::Preloader;
use crate::repository::Served;
use crate::repository::settings::{AllSettings, Settings, client_of};
use crate::throttle::Throttle;

/// Reads the settings, and remembers what they were read from.
struct Loader {
    config: Arc<Config>,
    served: Served,
    /// The client's configuration, as it was read last.
    client: ClientConfiguration,
    fingerprint: Fingerprint,
    /// What was wrong the last time, so that it is logged once.
    problems: Vec<String>,
}

/// What all deliveries share, whatever the settings are.
struct Shared {
    fetcher: Arc<Fetcher>,
    page_cache: Arc<Preloader>,
    mount_reads: Arc<Semaphore>,
}

impl Daemon {
    /// Finds out how the repositories are served, opens their caches and starts the requests that wait for it; then keeps the
    /// settings current until the daemon shuts down. Returns only if the daemon can serve nothing.
    pub async fn follow_settings(self: &Arc<Self>, config: &Arc<Config>) -> SettingsUnusable {
        let mount_reads = Arc::new(Semaphore::new(mount_reader::READS));
        let skipped = self.counters.page_cache_skipped.clone();
        let shared = Shared {
            fetcher: Arc::new(Fetcher::new(config.max_bytes_per_second)),
            page_cache: Arc::new(Preloader::new(config.page_cache_threads, &mount_reads, skipped)),
            mount_reads,
        };
        let mut loader = Loader::new(config, &shared.mount_reads);
        let mut problems = match self.load(&mut loader, &shared).await {
            Ok(problems) => problems,
            Err(error) => return error,
        };
        self.tasks.spawn(self.throttle(&shared.mount_reads).watch());
        self.watch_revisions(config);
        loop {
            let is_requested = tokio::select! {
                () = self.shutdown.cancelled() => return std::future::pending().await,
                () = self.reload.notified() => true,
                () = pause(config.settings_check_interval) => false,
            };
            if is_requested {
                info!("reading the settings again, as requested");
                self.sources.forget_absent();
            } else if problems == 0 && !loader.has_changed().await {
                continue;
            }
            problems = self.load(&mut loader, &shared).await.unwrap_or_else(|error| {
                warn!(%error, "the settings cannot be used; keeping the earlier ones");
                1
            });
        }
    }

    /// Has the settings read again soon.
    pub fn reload(&self) {
        self.reload.notify_one();
    }

    /// Reads the settings and uses them for new requests; returns the number of problems.
    async fn load(&self, loader: &mut Loader, shared: &Shared) -> Result<usize, SettingsUnusable> {
        let is_first = self.delivery.borrow().is_none();
        let problems = loader.in_background(move |loader| loader.load(is_first)).await??;
        let repositories = loader.served.by_name();
        let context = delivery::Context {
            repositories: repositories.clone(),
            fetcher: shared.fetcher.clone(),
            sources: self.sources.clone(),
            page_cache: shared.page_cache.clone(),
            max_connections: loader.config.max_connections,
            shutdown: self.shutdown.clone(),
        };
        self.sources.set_mounts(repositories.values().map(|repository| repository.mount.clone()));
        self.repositories.send_replace(repositories);
        self.delivery.send_replace(Some(Arc::new(context)));
        self.counters.settings_problems.set(problems as i64);
        info!(problems, "settings loaded");
        Ok(problems)
    }

    fn throttle(&self, mount_reads: &Arc<Semaphore>) -> Throttle {
        Throttle {
            repositories: self.repositories.subscribe(),
            mount_reads: mount_reads.clone(),
            running: self.requests.running(),
            shutdown: self.shutdown.clone(),
            connection_share: self.counters.connection_share.clone(),
        }
    }
}

/// Waits for `interval`, or for ever if that is zero.
async fn pause(interval: Duration) {
    if interval.is_zero() {
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(interval).await;
}

impl Loader {
    fn new(config: &Arc<Config>, mount_reads: &Arc<Semaphore>) -> Self {
        Self {
            config: config.clone(),
            served: Served::new(config, mount_reads),
            client: client_of(config),
            fingerprint: Fingerprint::default(),
            problems: Vec::new(),
        }
    }

    /// Does `work` on a thread that may block. If this is cancelled, the thread goes on alone.
    async fn in_background<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Self) -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        // An empty one stays here meanwhile.
        let empty = Self::new(&self.config, &Arc::new(Semaphore::new(0)));
        let mut loader = std::mem::replace(self, empty);
        let (loader, result) = tokio::task::spawn_blocking(move || {
            let result = work(&mut loader);
            (loader, result)
        })
        .await?;
        *self = loader;
        Ok(result)
    }

    /// Reads the settings and opens the caches; returns the number of problems. Blocks for as long as `cvmfs_config`, the mounts and
    /// the caches do, within their timeouts.
    fn load(&mut self, is_first: bool) -> Result<usize, SettingsUnusable> {
        let client = client_of(&self.config);
        // Before the files are read: a change in between is noticed the next time.
        let fingerprint = client.fingerprint();
        let all = Settings::all(&self.config, &client)?;
        self.fingerprint = fingerprint.or_revision_of(&client.fingerprint());
        self.client = client;
        let problems = self.serve(all, is_first)?;
        for problem in problems.iter().filter(|problem| !self.problems.contains(problem)) {
            warn!("{problem}");
        }
        self.problems = problems;
        Ok(self.problems.len())
    }

    /// Serves the repositories; returns what is wrong with them.
    fn serve(&mut self, all: AllSettings, is_first: bool) -> Result<Vec<String>, SettingsUnusable> {
        let AllSettings { settings, errors } = all;
        let mut problems: Vec<String> = errors.iter().map(ToString::to_string).collect();
        for found in settings.iter().filter(|found| found.are_provisional()) {
            let Settings { name, notes, choice, .. } = found;
            let notes = if notes.is_empty() { choice.reason.clone() } else { notes.join("; ") };
            problems.push(format!("repository {name}: cannot read all settings of the CVMFS client: {notes}"));
        }
        for (name, error) in self.served.update(settings, &self.config) {
            problems.push(format!("repository {name}: cannot set up HTTP: {error}"));
        }
        for repository in self.served.by_name().values() {
            match repository.destination.prepare() {
                Ok(()) => {}
                Err(error @ CacheError::InUse(_)) if is_first => return Err(SettingsUnusable::Cache(error)),
                Err(error) => problems.push(format!("repository {}: cache not usable yet: {error}", repository.name)),
            }
        }
        Ok(problems)
    }

    /// Whether the client's configuration has changed since it was read.
    async fn has_changed(&mut self) -> bool {
        let compared = self.in_background(|loader| {
            let now = loader.client.fingerprint();
            let differs = now.differs_from(&loader.fingerprint);
            loader.fingerprint = now.or_revision_of(&loader.fingerprint);
            differs
        });
        let has_changed = compared.await.unwrap_or(false);
        if has_changed {
            info!("the configuration of the CVMFS client has changed");
        }
        has_changed
    }
}
