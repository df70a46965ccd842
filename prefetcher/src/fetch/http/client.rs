//! The connections to a proxy, or to the servers without one.

use std::path::PathBuf;
use std::time::Duration;

use node::cvmfs_client::proxy::Proxy;

use super::ca;

/// A name is resolved and a connection made within so long, or the way is no good.
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
        // A server of a repository does not redirect; a captive portal does.
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        // The environment's proxy variables are not for a daemon.
        .no_proxy();
    if let Proxy::Via(url) = proxy {
        builder = builder.proxy(reqwest::Proxy::all(url)?);
    }
    let mut urls = servers.iter().chain(match proxy {
        Proxy::Direct => None,
        Proxy::Via(url) => Some(url),
    });
    let builder = match urls.all(|url| url.starts_with("http://")) {
        // No need for the machine's certificates, which may be missing.
        true => builder.tls_certs_only([]),
        false => builder.tls_certs_merge(ca::authorities(certificates)),
    };
    builder.build()
}
