//! The obvious way to be quick: all objects by plain requests, many at a time.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bundles::bundle::{Bundle, BundleObject};
use bundles::object::unpack;
use futures::{StreamExt, TryStreamExt};

const CONNECTIONS: usize = 64;

/// How long it takes to have all objects from `url` in `directory`.
pub(super) async fn fetch_all(bundle: &Bundle, url: &str, proxy: Option<String>, directory: &Path) -> Result<Duration> {
    for shelf in 0..=0xff_u8 {
        std::fs::create_dir_all(directory.join(format!("{shelf:02x}")))?;
    }
    let mut http = reqwest::Client::builder().no_proxy().http1_only().pool_max_idle_per_host(CONNECTIONS);
    if let Some(proxy) = proxy {
        http = http.proxy(reqwest::Proxy::http(proxy)?);
    }
    let (http, begun) = (http.build()?, Instant::now());
    let objects = bundle.objects.iter().map(|object| fetch(&http, url, object, directory));
    futures::stream::iter(objects).buffer_unordered(CONNECTIONS).try_collect::<()>().await?;
    Ok(begun.elapsed())
}

async fn fetch(http: &reqwest::Client, url: &str, object: &BundleObject, directory: &Path) -> Result<()> {
    let url = format!("{url}/{}", object.hash.url_path(object.kind));
    let stored = http.get(&url).send().await?.error_for_status()?.bytes().await?;
    let (hash, size, path) = (object.hash, object.raw_size, directory.join(object.hash.cache_path()));
    let store = move || anyhow::Ok(std::fs::write(path, unpack(&hash, &stored, size)?)?);
    tokio::task::spawn_blocking(store).await?.with_context(|| format!("cannot fetch {url}"))
}
