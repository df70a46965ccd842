//! The routes to a repository's objects: through which proxy, from which server; and which of them works.
//!
//! As in the CVMFS client, the proxies of a group share the load of many nodes, the next group is used when all proxies of one have
//! failed, and servers are used in their order. A proxy or server that fails is passed over by all later fetches, and
//! used again after a while.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use node::cvmfs_client::proxy::Proxy;
use rand::seq::SliceRandom;

use super::upstream::Upstream;
use crate::fetch::failure::Blame;
use crate::fetch::http::client::client;
use crate::fetch::limits::concurrency::{ConcurrencyLimit, Permit};
use crate::fetch::limits::per_proxy::{ProxyLimits, spread};
use crate::fetch::limits::token_bucket::TokenBucket;

/// The first proxy is tried again after so long. `CVMFS_PROXY_RESET_AFTER`'s default.
const PROXY_RESET: Duration = Duration::from_secs(300);
/// The first server is tried again after so long. `CVMFS_HOST_RESET_AFTER`'s default.
const SERVER_RESET: Duration = Duration::from_secs(1800);

/// All ways of one repository.
#[derive(Debug)]
pub struct Routes {
    pub(super) upstream: Upstream,
    /// In the order of fail-over; within a group in an order of this node's own.
    pub(super) proxies: Vec<Hop>,
    proxy: Preference,
    server: Preference,
}

/// A proxy, or none, with its connections.
#[derive(Debug)]
pub(super) struct Hop {
    proxy: Proxy,
    http: reqwest::Client,
    window: ConcurrencyLimit,
    pace: Arc<TokenBucket>,
}

/// One way, by its place among the proxies and among the servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Way {
    pub(super) proxy: usize,
    pub(super) server: usize,
}

/// Which one to begin with.
#[derive(Debug, Default)]
struct Preference(Mutex<(usize, Option<Instant>)>);

impl Routes {
    /// The ways of `upstream`, with at most so many connections to each host, and requests a second as `paces` has them.
    pub fn new(upstream: Upstream, connections: usize, paces: &ProxyLimits) -> Result<Self, reqwest::Error> {
        let mut proxies = Vec::new();
        for group in &upstream.proxies {
            let mut group = group.clone();
            group.shuffle(&mut rand::rng());
            for proxy in group {
                let timeout = upstream.timeout_to(&proxy);
                let http = client(&proxy, &upstream.servers, &upstream.certificates, timeout, connections)?;
                let pace = paces.of(&proxy);
                proxies.push(Hop { proxy, http, window: ConcurrencyLimit::new(connections), pace });
            }
        }
        Ok(Self { upstream, proxies, proxy: Preference::default(), server: Preference::default() })
    }

    /// Its configuration.
    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// The URL of an object.
    pub fn url(&self, way: Way, path: &str) -> String {
        format!("{}/{path}", self.upstream.servers[way.server])
    }

    /// The connections of a way.
    pub fn http(&self, way: Way) -> &reqwest::Client {
        &self.proxies[way.proxy].http
    }

    /// Bounds what is asked by a way at a time.
    pub fn window(&self, way: Way) -> &ConcurrencyLimit {
        &self.proxies[way.proxy].window
    }

    /// Waits for a place among what is asked by a way at a time, and then for a turn among what is asked a second. A
    /// smaller `rank` goes first.
    pub async fn enter(&self, way: Way, rank: u8) -> Permit {
        let hop = &self.proxies[way.proxy];
        let place = hop.window.enter(rank).await;
        hop.pace.turn().await;
        place
    }

    /// How long to wait before one begins to fetch: some time of this node's own if many ask at once.
    pub fn spread(&self) -> Duration {
        spread(self.window(self.first()).too_much(Instant::now()), rand::random_range(0.0..1.0))
    }

    /// Has all ways use so much of their windows.
    pub fn set_share(&self, share: f64) {
        self.proxies.iter().for_each(|hop| hop.window.set_share(share));
    }

    /// Whether a cache may stand between us and the server.
    pub fn is_proxied(&self, way: Way) -> bool {
        self.proxies[way.proxy].proxy != Proxy::Direct
    }

    /// The way that one would begin with now.
    pub fn first(&self) -> Way {
        Way {
            proxy: self.proxy.get(PROXY_RESET, Instant::now()),
            server: self.server.get(SERVER_RESET, Instant::now()),
        }
    }

    pub(super) fn pass_over(&self, way: Way, blame: Blame) {
        match blame {
            Blame::Proxy => self.proxy.pass_over(way.proxy, self.proxies.len(), Instant::now()),
            Blame::Server => self.server.pass_over(way.server, self.upstream.servers.len(), Instant::now()),
        }
    }
}

impl Preference {
    fn get(&self, reset: Duration, now: Instant) -> usize {
        let mut preference = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if preference.1.is_some_and(|since| now.saturating_duration_since(since) >= reset) {
            *preference = (0, None);
        }
        preference.0
    }

    /// Of many failures at a time only the first moves the preference.
    fn pass_over(&self, failed: usize, count: usize, now: Instant) {
        let mut preference = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if preference.0 == failed && count > 1 {
            *preference = ((failed + 1) % count, Some(now));
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

    /// The ways of one round, when `outcome` says what each comes to.
    fn walk(attempts: &mut Round<'_>, outcome: impl Fn(Way) -> Failure) -> Vec<(usize, usize)> {
        let mut ways = Vec::new();
        while let Some(way) = attempts.next_way() {
            ways.push((way.proxy, way.server));
            attempts.failed(way, &outcome(way));
        }
        ways
    }

    #[test]
    fn a_dead_proxy_is_passed_over_and_so_is_a_dead_server() {
        let routes = routes(&[&["a"], &["b"], &["DIRECT"]], 2);
        let dead_proxy = |way: Way| match way.proxy {
            0 => Failure::transient("no connection").by(Blame::Proxy),
            _ => Failure::transient("500").by(Blame::Server),
        };
        assert_eq!(walk(&mut Round::new(&routes), dead_proxy), [(0, 0), (1, 0), (1, 1), (2, 0), (2, 1)]);
        // The next fetch begins behind the proxy that failed.
        assert_eq!(Round::new(&routes).next_way().unwrap().proxy, 1);
    }

    #[test]
    fn when_all_proxies_stall_the_next_server_is_tried() {
        let routes = routes(&[&["a"], &["b"]], 2);
        let stalls = |_| Failure::transient("no byte").by(Blame::Proxy);
        assert_eq!(walk(&mut Round::new(&routes), stalls), [(0, 0), (1, 0), (0, 1), (1, 1)]);
    }

    #[test]
    fn a_direct_way_has_only_its_server_to_blame_and_a_refusal_is_final() {
        let routes = routes(&[&["DIRECT"]], 3);
        let mut attempts = Round::new(&routes);
        let outcome = |way: Way| match way.server {
            1 => Failure::refused("404"),
            _ => Failure::transient("reset").by(Blame::Proxy),
        };
        assert_eq!(walk(&mut attempts, outcome), [(0, 0), (0, 1), (0, 2)]);
        assert!(attempts.again());
        // Behind the first that failed.
        assert_eq!(walk(&mut attempts, |_| Failure::refused("404")), [(0, 2), (0, 0)]);
        assert!(!attempts.again());
    }

    #[test]
    fn groups_keep_their_order_and_the_first_comes_back() {
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
