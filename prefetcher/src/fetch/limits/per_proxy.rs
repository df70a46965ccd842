//! Requests a second: what one proxy is asked for by this node.
//!
//! A node's prefetches ask faster than the container would, which asks for one object after the other. A squid that many
//! nodes share is kept from the sum of that by a limit: as many requests a second as it has to give, divided by the nodes.
//! And when a proxy shows that many ask at once, requests that begin do so after a pause that differs from node to node.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use node::cvmfs_client::proxy::Proxy;

use super::token_bucket::TokenBucket;

/// A proxy that had too much to do is thought to be busy for so long.
const BUSY: Duration = Duration::from_secs(10);
/// Beginnings are spread over so much time: a thousand nodes then come as one each millisecond.
const SPREAD: Duration = Duration::from_secs(1);

/// The limits of all proxies. Repositories with the same proxy share its limit.
#[derive(Debug, Default)]
pub struct ProxyLimits {
    requests_per_second: Option<u64>,
    known: Mutex<HashMap<Proxy, Arc<TokenBucket>>>,
}

impl ProxyLimits {
    /// So many requests a second to each.
    pub fn new(requests_per_second: Option<u64>) -> Self {
        Self { requests_per_second, known: Mutex::default() }
    }

    /// That of a proxy; what goes to servers without one has one together.
    pub fn of(&self, proxy: &Proxy) -> Arc<TokenBucket> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.entry(proxy.clone()).or_insert_with(|| Arc::new(TokenBucket::new(self.requests_per_second))).clone()
    }
}

/// How long to wait before the first request to a proxy that had too much to do so long ago; `draw` is from 0 to 1.
pub fn spread(too_much: Option<Duration>, draw: f64) -> Duration {
    match too_much {
        Some(ago) if ago < BUSY => SPREAD.mul_f64(draw.clamp(0.0, 1.0)),
        _ => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_limit_for_each_proxy() {
        let paces = ProxyLimits::new(Some(7));
        let via = |name: &str| paces.of(&Proxy::Via(name.into()));
        assert!(Arc::ptr_eq(&via("a"), &via("a")) && !Arc::ptr_eq(&via("a"), &via("b")));
        assert!(!Arc::ptr_eq(&via("a"), &paces.of(&Proxy::Direct)));
        assert_eq!(via("c").rate(), Some(7));
    }

    #[test]
    fn only_behind_a_busy_proxy_nodes_begin_apart() {
        let ms = Duration::from_millis;
        for (too_much, draw, expected) in [
            (None, 1.0, ms(0)),
            (Some(ms(0)), 0.0, ms(0)),
            (Some(ms(0)), 0.25, ms(250)),
            (Some(ms(9_999)), 1.0, ms(1000)),
            (Some(ms(10_000)), 1.0, ms(0)),
        ] {
            assert_eq!(spread(too_much, draw), expected, "{too_much:?} {draw}");
        }
    }
}
