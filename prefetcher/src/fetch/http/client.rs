//! HTTP clients: the connections to one proxy, or to the servers without a proxy.

use std::path::PathBuf;
use std::time::Duration;

use node::cvmfs_client::proxy::Proxy;

use super::ca;

/// Timeout of name resolution and connecting. After it the route counts as dead.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The HTTP client for one proxy and the servers behind it. It keeps at most `connections` idle connections; `timeout` is how
/// long it waits for the next byte.
pub fn client(
    proxy: &Proxy,
    servers: &[String],
    certificates: &[PathBuf],
    timeout: Duration,
    connections: usize,
) -> Result<reqwest::Client, reqwest::Error> {
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("cvmfs-prefetchd/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT.min(timeout))
        .read_timeout(timeout)
        .pool_max_idle_per_host(connections)
        // Servers of repositories do not redirect; captive portals do.
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        // Proxies come from the configuration, not from environment variables.
        .no_proxy();
    if let Proxy::Via(url) = proxy {
        builder = builder.proxy(reqwest::Proxy::all(url)?);
    }
    let mut urls = servers.iter().chain(match proxy {
        Proxy::Direct => None,
        Proxy::Via(url) => Some(url),
    });
    let builder = if urls.all(|url| url.starts_with("http://")) {
        // The machine's certificates are not needed, and they may be missing.
        builder.tls_certs_only([])
    } else {
        builder.tls_certs_merge(ca::authorities(certificates))
    };
    builder.build()
}
