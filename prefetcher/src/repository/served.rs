//! The repositories that are served, and what outlives a change of their settings.
//!
//! A request that is under way keeps the repositories that it began with. So what there is only one of on a node is shared between
//! a repository and its successor with other settings: the lock of a cache directory, the bytes that were granted there, the
//! number that tells destinations apart, the limits of proxies, and, if servers and proxies are the same, what is known of them.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tracing::info;

use super::settings::Settings;
use super::{Repository, destination, directory};
use crate::cache::capacity::Granted;
use crate::cache::{Destination, DestinationId};
use crate::config::Config;
use crate::fetch::failover::Routes;
use crate::fetch::limits::per_proxy::ProxyLimits;

/// Repositories by name.
pub type ByName = Arc<HashMap<String, Arc<Repository>>>;

/// The repositories that are served.
#[derive(Debug)]
pub struct Served {
    repositories: HashMap<String, (Settings, Arc<Repository>)>,
    places: Vec<Place>,
    proxy_limits: ProxyLimits,
    readers: Arc<Semaphore>,
    next_destination: usize,
}

/// A destination, and what it was made from.
#[derive(Debug, Clone)]
struct Place {
    at: PlaceName,
    settings: Settings,
    id: DestinationId,
    destination: Destination,
    granted: Granted,
}

/// Repositories with the same place share a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
enum PlaceName {
    Directory(PathBuf),
    Mount(PathBuf),
}

impl Served {
    /// No repository yet. `readers` limits the reads through all mounts at a time.
    pub fn new(config: &Config, readers: &Arc<Semaphore>) -> Self {
        Self {
            repositories: HashMap::new(),
            places: Vec::new(),
            proxy_limits: ProxyLimits::new(Some(config.max_requests_per_second)),
            readers: readers.clone(),
            next_destination: 0,
        }
    }

    /// Serves the repositories of `all` from now on. Returns those that cannot be served, with the reason.
    pub fn update(&mut self, all: Vec<Settings>, config: &Config) -> Vec<(String, reqwest::Error)> {
        let earlier_places = std::mem::take(&mut self.places);
        let mut earlier = std::mem::take(&mut self.repositories);
        let mut not_served = Vec::new();
        for settings in all {
            let place = self.place(&settings, config, &earlier_places);
            let before = earlier.remove(&settings.name);
            if let Some((known, repository)) = before.as_ref().filter(|(known, _)| known.is_same(&settings)) {
                self.repositories.insert(settings.name.clone(), (known.clone(), repository.clone()));
                continue;
            }
            let (name, kind, reason) = (&settings.name, settings.choice.kind, &settings.choice.reason);
            let servers = settings.upstream.servers.len();
            info!(repository = name, destination = %kind, reason, servers, is_new = before.is_none(), "repository");
            let is_same = |(known, _): &(Settings, _)| known.upstream == settings.upstream;
            let routes = match before.filter(is_same) {
                Some((_, repository)) => Ok(repository.routes.clone()),
                None => {
                    Routes::new(settings.upstream.clone(), config.max_connections, &self.proxy_limits).map(Arc::new)
                }
            };
            match routes {
                Ok(routes) => {
                    let repository = Repository {
                        name: name.clone(),
                        mount: settings.mount.clone(),
                        routes,
                        destination: place.destination,
                        destination_id: place.id,
                        granted: place.granted,
                    };
                    self.repositories.insert(name.clone(), (settings, Arc::new(repository)));
                }
                Err(error) => not_served.push((settings.name, error)),
            }
        }
        for name in earlier.keys() {
            info!(repository = name, "repository is no longer served");
        }
        not_served
    }

    /// All repositories, by name.
    pub fn by_name(&self) -> ByName {
        let repositories = self.repositories.iter();
        Arc::new(repositories.map(|(name, (_, repository))| (name.clone(), repository.clone())).collect())
    }

    /// The place of a repository: that of an earlier one in `self` with the same cache, otherwise one that continues its place
    /// of `earlier`, otherwise a new one.
    fn place(&mut self, settings: &Settings, config: &Config, earlier: &[Place]) -> Place {
        let at = directory(settings)
            .map_or_else(|| PlaceName::Mount(settings.mount.path().to_owned()), PlaceName::Directory);
        if let Some(shared) = self.places.iter().find(|place| place.at == at) {
            return shared.clone();
        }
        let place = match earlier.iter().find(|place| place.at == at) {
            Some(known) if known.settings.choice == settings.choice => known.clone(),
            Some(known) => {
                let destination = destination(settings, config, &self.readers, Some(&known.destination));
                Place { settings: settings.clone(), destination, ..known.clone() }
            }
            None => {
                self.next_destination += 1;
                Place {
                    at,
                    settings: settings.clone(),
                    id: DestinationId::new(self.next_destination),
                    destination: destination(settings, config, &self.readers, None),
                    granted: Granted::default(),
                }
            }
        };
        self.places.push(place.clone());
        place
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;

    use super::*;
    use crate::repository::settings::tests::settings;

    const SERVERS: &str = "CVMFS_SERVER_URL=\"http://one/@fqrn@\"\n";

    fn client(cache: &Path, quota: u32, proxy: &str) -> Settings {
        let text = format!(
            "{SERVERS}CVMFS_HTTP_PROXY={proxy}\nCVMFS_CACHE_BASE={}\nCVMFS_SHARED_CACHE=yes\nCVMFS_QUOTA_LIMIT={quota}\n",
            cache.display()
        );
        settings(&text, "").unwrap()
    }

    fn only(served: &Served) -> Arc<Repository> {
        let all = served.by_name();
        assert_eq!(all.len(), 1);
        all.values().next().unwrap().clone()
    }

    #[test]
    fn a_changed_repository_keeps_its_lock_and_what_is_counted() {
        let base = tempfile::tempdir().unwrap();
        std::fs::create_dir(base.path().join("shared")).unwrap();
        let config = Config::parse("", Path::new("test.toml")).unwrap();
        let mut served = Served::new(&config, &Arc::new(Semaphore::new(1)));
        let first = client(base.path(), 4000, "DIRECT");
        assert!(served.update(vec![first.clone()], &config).is_empty());
        let old = only(&served);
        old.destination.prepare().unwrap();

        served.update(vec![Settings { notes: vec!["a note".into()], ..first.clone() }], &config);
        assert!(Arc::ptr_eq(&old, &only(&served)), "nothing has changed");

        let quota = Settings { mount: first.mount.clone(), ..client(base.path(), 9000, "DIRECT") };
        served.update(vec![quota], &config);
        let new = only(&served);
        assert!(!Arc::ptr_eq(&old, &new) && Arc::ptr_eq(&old.routes, &new.routes));
        assert_eq!(old.destination_id, new.destination_id);
        new.destination.prepare().unwrap();
        let free_space = |repository: &Repository| repository.destination.free_space().unwrap();
        assert_eq!((free_space(&old).quota, free_space(&new).quota), (Some(4000 << 20), Some(9000 << 20)));

        let proxy = Settings { mount: first.mount.clone(), ..client(base.path(), 9000, "http://a:1") };
        served.update(vec![proxy], &config);
        assert!(!Arc::ptr_eq(&new.routes, &only(&served).routes));
        only(&served).destination.prepare().unwrap();

        let other = tempfile::tempdir().unwrap();
        let moved = Settings { mount: first.mount, ..client(other.path(), 9000, "http://a:1") };
        served.update(vec![moved], &config);
        assert_ne!(new.destination_id, only(&served).destination_id);
        served.update(Vec::new(), &config);
        assert!(served.by_name().is_empty());
    }
}
