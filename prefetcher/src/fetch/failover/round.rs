//! One download's walk over the routes to its object.

use std::collections::HashSet;

use super::routes::{Route, Routes};
use crate::fetch::failure::{Blame, Failure};

/// After this many servers that do not have an object, no further one gets a request. One may be a replica that lags behind.
const MAX_ABSENT: usize = 2;

/// The routes that one download has tried.
#[derive(Debug)]
pub struct Round<'a> {
    routes: &'a Routes,
    tried: HashSet<Route>,
    bad_proxies: HashSet<usize>,
    bad_servers: HashSet<usize>,
    /// Servers that would refuse in another round too.
    refused: HashSet<usize>,
    /// Servers that do not have the object.
    absent: HashSet<usize>,
}

impl<'a> Round<'a> {
    /// A round that has tried nothing yet.
    pub fn new(routes: &'a Routes) -> Self {
        Self {
            routes,
            tried: HashSet::new(),
            bad_proxies: HashSet::new(),
            bad_servers: HashSet::new(),
            refused: HashSet::new(),
            absent: HashSet::new(),
        }
    }

    /// Returns the next route: preferably one whose proxy and server have not failed in this round, never one whose proxy and server
    /// both have.
    pub fn next_route(&mut self) -> Option<Route> {
        let (first, routes) = (self.routes.first(), self.routes);
        let (proxies, servers) = (routes.proxies.len(), routes.upstream.servers.len());
        let all = (0..proxies)
            .flat_map(|p| (0..servers).map(move |s| (p, s)))
            .map(|(p, s)| Route { proxy: (first.proxy + p) % proxies, server: (first.server + s) % servers });
        let failures = |route: &Route| {
            usize::from(self.bad_proxies.contains(&route.proxy)) + usize::from(self.bad_servers.contains(&route.server))
        };
        let open = all.filter(|route| !self.tried.contains(route) && failures(route) < 2);
        // `min_by_key` returns the first of the best.
        let route = open.min_by_key(failures)?;
        self.tried.insert(route);
        Some(route)
    }

    /// Records that a download over `route` has failed.
    pub fn failed(&mut self, route: Route, failure: &Failure) {
        let blame = match failure.blame {
            Blame::Proxy if self.routes.is_proxied(route) => Blame::Proxy,
            _ => Blame::Server,
        };
        match blame {
            Blame::Proxy => _ = self.bad_proxies.insert(route.proxy),
            Blame::Server => _ = self.bad_servers.insert(route.server),
        }
        if failure.absent {
            self.absent.insert(route.server);
        }
        if failure.transient {
            self.routes.pass_over(route, blame);
        } else {
            self.refused.insert(route.server);
        }
    }

    /// Whether so many servers do not have the object that no further one gets a request.
    pub fn is_absent(&self) -> bool {
        self.absent.len() >= MAX_ABSENT
    }

    /// Begins another round; false if that is pointless, because every server has refused.
    pub fn restart(&mut self) -> bool {
        self.tried.clear();
        self.bad_proxies.clear();
        self.bad_servers.clear();
        // Servers that refused are not tried again.
        for server in &self.refused {
            self.tried.extend((0..self.routes.proxies.len()).map(|proxy| Route { proxy, server: *server }));
        }
        self.refused.len() < self.routes.upstream.servers.len()
    }
}
