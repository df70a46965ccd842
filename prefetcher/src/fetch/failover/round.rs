//! One fetch's walk over the ways to its object.

use std::collections::HashSet;

use super::routes::{Routes, Way};
use crate::fetch::failure::{Blame, Failure};

/// One fetch's walk over the ways.
#[derive(Debug)]
pub struct Round<'a> {
    routes: &'a Routes,
    tried: HashSet<Way>,
    bad_proxies: HashSet<usize>,
    bad_servers: HashSet<usize>,
    /// Servers that will not do better in another round.
    refused: HashSet<usize>,
}

impl<'a> Round<'a> {
    /// Nothing tried yet.
    pub fn new(routes: &'a Routes) -> Self {
        let (tried, refused) = Default::default();
        let (bad_proxies, bad_servers) = Default::default();
        Self { routes, tried, bad_proxies, bad_servers, refused }
    }

    /// The next way: one whose proxy and server have not failed in this round, if there is one; never one of which both
    /// have.
    pub fn next_way(&mut self) -> Option<Way> {
        let (first, routes) = (self.routes.first(), self.routes);
        let (proxies, servers) = (routes.proxies.len(), routes.upstream.servers.len());
        let ways = (0..proxies)
            .flat_map(|p| (0..servers).map(move |s| (p, s)))
            .map(|(p, s)| Way { proxy: (first.proxy + p) % proxies, server: (first.server + s) % servers });
        let failures = |w: &Way| {
            usize::from(self.bad_proxies.contains(&w.proxy)) + usize::from(self.bad_servers.contains(&w.server))
        };
        let open = ways.filter(|way| !self.tried.contains(way) && failures(way) < 2);
        // The first of the best: `min_by_key` gives that.
        let way = open.min_by_key(failures)?;
        self.tried.insert(way);
        Some(way)
    }

    /// `way` has failed.
    pub fn failed(&mut self, way: Way, failure: &Failure) {
        let blame = match failure.blame {
            Blame::Proxy if self.routes.is_proxied(way) => Blame::Proxy,
            _ => Blame::Server,
        };
        match blame {
            Blame::Proxy => _ = self.bad_proxies.insert(way.proxy),
            Blame::Server => _ = self.bad_servers.insert(way.server),
        }
        if failure.transient {
            self.routes.pass_over(way, blame);
        } else {
            self.refused.insert(way.server);
        }
    }

    /// Begins another round; false if there is nothing to hope for, because every server has refused.
    pub fn again(&mut self) -> bool {
        self.tried.clear();
        self.bad_proxies.clear();
        self.bad_servers.clear();
        // One that refused is left out for good.
        for server in &self.refused {
            self.tried.extend((0..self.routes.proxies.len()).map(|proxy| Way { proxy, server: *server }));
        }
        self.refused.len() < self.routes.upstream.servers.len()
    }
}
