//! The obvious fast method: plain requests for all objects over many connections.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bundles::bundle::{Bundle, BundleObject};
use bundles::object::unpack;
use futures::{StreamExt, TryStreamExt};

const CONNECTIONS: usize = 64;

/// Fetches all objects from `url` into `directory`; returns how long it took.
pub(super) async fn fetch_all(bundle: &Bundle, url: &str, proxy: Option<String>, directory: &Path) -> Result<Duration> {
    for shelf in 0..=0xff_u8 {
        std::fs::create_dir_all(directory.join(format!("{shelf:02x}")))?;
    }
    let mut http = reqwest::Client::builder().no_proxy().http1_only().pool_max_idle_per_host(CONNECTIONS);
    if let Some(proxy) = proxy {
        http = http.proxy(reqwest::Proxy::http(proxy)?);
    }
    let http = http.build()?;
    let started = Instant::now();
    let objects = bundle.objects.iter().map(|object| fetch(&http, url, object, directory));
    futures::stream::iter(objects).buffer_unordered(CONNECTIONS).try_collect::<()>().await?;
    Ok(started.elapsed())
}

async fn fetch(http: &reqwest::Client, url: &str, object: &BundleObject, directory: &Path) -> Result<()> {
    let url = format!("{url}/{}", object.hash.url_path(object.kind));
    let stored = http.get(&url).send().await?.error_for_status()?.bytes().await?;
    let (hash, size, path) = (object.hash, object.raw_size, directory.join(object.hash.cache_path()));
    let store = move || anyhow::Ok(std::fs::write(path, unpack(&hash, &stored, size)?)?);
    tokio::task::spawn_blocking(store).await?.with_context(|| format!("cannot fetch {url}"))
}
