//! What the daemon needs to know of one repository while it runs.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Config, RepositoryConfig};
use crate::fetch::route::Routes;
use crate::sink::{PosixCache, Sink};
use crate::upstream::{Proxy, Upstream};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// One configured repository.
#[derive(Debug)]
pub struct Repository {
    /// Fully qualified name.
    pub name: String,
    /// Where it is mounted.
    pub mount: PathBuf,
    /// Where its objects come from.
    pub routes: Routes,
    /// Where its objects go.
    pub sink: Arc<dyn Sink>,
    /// Tells sinks apart. Repositories that share a cache share the number.
    pub sink_number: usize,
}

impl Repository {
    /// All repositories of `config`, by name.
    pub fn all(config: &Config) -> Result<HashMap<String, Arc<Self>>, reqwest::Error> {
        let mut sinks: Vec<(PathBuf, Arc<dyn Sink>)> = Vec::new();
        let mut all = HashMap::new();
        for one in &config.repositories {
            let cache = one.cache.canonicalize().unwrap_or_else(|_| one.cache.clone());
            let known = sinks.iter().position(|(path, _)| *path == cache);
            let sink_number = known.unwrap_or_else(|| {
                sinks.push((cache.clone(), Arc::new(PosixCache::new(&cache))));
                sinks.len() - 1
            });
            let repository = Self {
                name: one.name.clone(),
                mount: one.mount(),
                routes: Routes::new(upstream(one, config), config.connections)?,
                sink: sinks[sink_number].1.clone(),
                sink_number,
            };
            all.insert(one.name.clone(), Arc::new(repository));
        }
        Ok(all)
    }
}

fn upstream(repository: &RepositoryConfig, config: &Config) -> Upstream {
    let timeout = Duration::from_secs(config.timeout_s);
    Upstream {
        servers: repository.servers.clone(),
        proxies: vec![vec![repository.proxy.clone().map_or(Proxy::Direct, Proxy::Via)]],
        timeout,
        timeout_direct: timeout,
        retries: config.retries,
        first_pause: FIRST_PAUSE,
        longest_pause: LONGEST_PAUSE,
    }
}
