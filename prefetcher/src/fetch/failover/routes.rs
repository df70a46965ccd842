//! The routes to a repository's objects, each a proxy and a server, and which of them work.
//!
//! As in the CVMFS client, the proxies of a group share the load of many nodes, the next group is used when all proxies of one have
//! failed, and servers are used in their order. All later downloads avoid a proxy or server that has failed, until a reset time has
//! passed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use node::cvmfs_client::proxy::Proxy;
use parking_lot::Mutex;
use rand::seq::SliceRandom;

use super::upstream::Upstream;
use crate::fetch::failure::Blame;
use crate::fetch::http::client::client;
use crate::fetch::limits::concurrency::{ConcurrencyLimit, Permit};
use crate::fetch::limits::per_proxy::{ProxyLimits, start_pause};
use crate::fetch::limits::token_bucket::TokenBucket;

/// Time after which the first proxy is used again. `CVMFS_PROXY_RESET_AFTER`'s default.
const PROXY_RESET: Duration = Duration::from_secs(300);
/// Time after which the first server is used again. `CVMFS_HOST_RESET_AFTER`'s default.
const SERVER_RESET: Duration = Duration::from_secs(1800);

/// All routes of one repository.
#[derive(Debug)]
pub struct Routes {
    pub(super) upstream: Upstream,
    /// In the order of failover; within a group in a random order of this node.
    pub(super) proxies: Vec<Hop>,
    proxy: Preference,
    server: Preference,
}

/// A proxy, or the direct way to the servers, with its connections.
#[derive(Debug)]
pub(super) struct Hop {
    proxy: Proxy,
    http: reqwest::Client,
    concurrency: ConcurrencyLimit,
    requests: Arc<TokenBucket>,
}

/// A proxy and a server, by their indices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Route {
    pub(super) proxy: usize,
    pub(super) server: usize,
}

/// The proxy or server to begin with.
#[derive(Debug, Default)]
struct Preference(Mutex<Preferred>);

#[derive(Debug, Default)]
struct Preferred {
    index: usize,
    /// When it was moved away from the first; `None` while it is the first.
    moved_at: Option<Instant>,
}

impl Routes {
    /// The routes of `upstream`, with at most `connections` to each proxy.
    pub fn new(upstream: Upstream, connections: usize, limits: &ProxyLimits) -> Result<Self, reqwest::Error> {
        let mut proxies = Vec::new();
        for group in &upstream.proxies {
            let mut group = group.clone();
            group.shuffle(&mut rand::rng());
            for proxy in group {
                let timeout = upstream.timeout_to(&proxy);
                let http = client(&proxy, &upstream.servers, &upstream.certificates, timeout, connections)?;
                let requests = limits.for_proxy(&proxy);
                proxies.push(Hop { proxy, http, concurrency: ConcurrencyLimit::new(connections), requests });
            }
        }
        Ok(Self { upstream, proxies, proxy: Preference::default(), server: Preference::default() })
    }

    /// The configuration that the routes were made from.
    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// The URL of an object on the server of a route.
    pub fn url(&self, route: Route, path: &str) -> String {
        format!("{}/{path}", self.upstream.servers[route.server])
    }

    /// The HTTP client of a route.
    pub fn http(&self, route: Route) -> &reqwest::Client {
        &self.proxies[route.proxy].http
    }

    /// The concurrency limit of a route.
    pub fn concurrency(&self, route: Route) -> &ConcurrencyLimit {
        &self.proxies[route.proxy].concurrency
    }

    /// Waits for a connection of a route, and then until its rate limit admits one more request. A smaller `rank` goes first.
    pub async fn acquire(&self, route: Route, rank: u8) -> Permit {
        let hop = &self.proxies[route.proxy];
        let permit = hop.concurrency.acquire(rank).await;
        hop.requests.acquire().await;
        permit
    }

    /// Returns the pause before the first download of a request: a random time if the proxy is overloaded.
    pub fn start_pause(&self) -> Duration {
        start_pause(self.concurrency(self.first()).last_overload(Instant::now()), rand::random_range(0.0..1.0))
    }

    /// Sets the share of the connections of all routes that may be used.
    pub fn set_share(&self, share: f64) {
        self.proxies.iter().for_each(|hop| hop.concurrency.set_share(share));
    }

    /// Whether a route leads through a proxy, which may answer from its cache.
    pub fn is_proxied(&self, route: Route) -> bool {
        self.proxies[route.proxy].proxy != Proxy::Direct
    }

    /// The route that a download begins with now.
    pub fn first(&self) -> Route {
        Route {
            proxy: self.proxy.get(PROXY_RESET, Instant::now()),
            server: self.server.get(SERVER_RESET, Instant::now()),
        }
    }

    pub(super) fn pass_over(&self, route: Route, blame: Blame) {
        match blame {
            Blame::Proxy => self.proxy.pass_over(route.proxy, self.proxies.len(), Instant::now()),
            Blame::Server => self.server.pass_over(route.server, self.upstream.servers.len(), Instant::now()),
        }
    }
}

impl Preference {
    fn get(&self, reset: Duration, now: Instant) -> usize {
        let mut preferred = self.0.lock();
        if preferred.moved_at.is_some_and(|moved_at| now.saturating_duration_since(moved_at) >= reset) {
            *preferred = Preferred::default();
        }
        preferred.index
    }

    /// Moves the preference away from `failed`. Of many failures at a time only the first moves it.
    fn pass_over(&self, failed: usize, count: usize, now: Instant) {
        let mut preferred = self.0.lock();
        if preferred.index == failed && count > 1 {
            *preferred = Preferred { index: (failed + 1) % count, moved_at: Some(now) };
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::round::Round;
    use super::*;
    use crate::fetch::failure::Failure;
    use node::cvmfs_client::transfer::TransferPolicy;

    fn routes(groups: &[&[&str]], servers: usize) -> Routes {
        let proxy = |url: &&str| if *url == "DIRECT" { Proxy::Direct } else { Proxy::Via(format!("http://{url}")) };
        let upstream = Upstream {
            servers: (0..servers).map(|n| format!("http://s{n}/cvmfs/r")).collect(),
            proxies: groups.iter().map(|group| group.iter().map(proxy).collect()).collect(),
            policy: TransferPolicy::from_parameters(&Default::default()),
            certificates: Vec::new(),
        };
        Routes::new(upstream, 8, &ProxyLimits::default()).unwrap()
    }

    /// The routes of one round as (proxy, server), where each fails with `failure`.
    fn walk(round: &mut Round<'_>, failure: impl Fn(Route) -> Failure) -> Vec<(usize, usize)> {
        let mut routes = Vec::new();
        while let Some(route) = round.next_route() {
            routes.push((route.proxy, route.server));
            round.failed(route, &failure(route));
        }
        routes
    }

    #[test]
    fn dead_proxies_and_servers_are_avoided() {
        let routes = routes(&[&["a"], &["b"], &["DIRECT"]], 2);
        let dead_proxy = |route: Route| match route.proxy {
            0 => Failure::transient("no connection").by(Blame::Proxy),
            _ => Failure::transient("500").by(Blame::Server),
        };
        assert_eq!(walk(&mut Round::new(&routes), dead_proxy), [(0, 0), (1, 0), (1, 1), (2, 0), (2, 1)]);
        // The next download begins after the proxy that failed.
        assert_eq!(Round::new(&routes).next_route().unwrap().proxy, 1);
    }

    #[test]
    fn when_all_proxies_stall_the_next_server_is_tried() {
        let routes = routes(&[&["a"], &["b"]], 2);
        let stalls = |_| Failure::transient("no byte").by(Blame::Proxy);
        assert_eq!(walk(&mut Round::new(&routes), stalls), [(0, 0), (1, 0), (0, 1), (1, 1)]);
    }

    #[test]
    fn without_a_proxy_the_server_is_at_fault_and_a_refusal_is_final() {
        let routes = routes(&[&["DIRECT"]], 3);
        let mut round = Round::new(&routes);
        let failure = |route: Route| match route.server {
            1 => Failure::refused("404"),
            _ => Failure::transient("reset").by(Blame::Proxy),
        };
        assert_eq!(walk(&mut round, failure), [(0, 0), (0, 1), (0, 2)]);
        assert!(round.restart());
        // After the first that failed.
        assert_eq!(walk(&mut round, |_| Failure::refused("404")), [(0, 2), (0, 0)]);
        assert!(!round.restart());
    }

    #[test]
    fn two_servers_without_the_object_are_enough() {
        let routes = routes(&[&["DIRECT"]], 4);
        let mut round = Round::new(&routes);
        for (server, absent, expected) in [(0, true, false), (1, false, false), (2, true, true)] {
            let route = round.next_route().unwrap();
            assert_eq!(route.server, server);
            round.failed(route, &if absent { Failure::absent("404") } else { Failure::refused("403") });
            assert_eq!(round.is_absent(), expected, "{server}");
        }
    }

    #[test]
    fn groups_keep_their_order_and_the_first_proxy_is_used_again() {
        for _ in 0..20 {
            let routes = routes(&[&["a", "b", "c"], &["DIRECT"]], 1);
            assert_eq!(routes.proxies[3].proxy, Proxy::Direct);
        }
        let (preference, now) = (Preference::default(), Instant::now());
        preference.pass_over(0, 2, now);
        preference.pass_over(0, 2, now);
        assert_eq!(preference.get(PROXY_RESET, now), 1);
        assert_eq!(preference.get(PROXY_RESET, now + PROXY_RESET), 0);
    }
}
