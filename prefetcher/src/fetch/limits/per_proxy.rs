//! HTTP requests per second of this node to one proxy.
//!
//! Prefetching sends more requests per second than containers do, because they read one object after the other. A limit protects a
//! squid that many nodes share: its capacity in requests per second, divided by the number of nodes. And when a proxy is
//! overloaded, new prefetch requests start after a random pause, so that the nodes do not start together.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use node::cvmfs_client::proxy::Proxy;
use parking_lot::Mutex;

use super::token_bucket::TokenBucket;

/// How long a proxy counts as overloaded after it has shown it.
const OVERLOADED_FOR: Duration = Duration::from_secs(10);
/// Maximum pause before a start. A thousand nodes then start one per millisecond.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// The limits of all proxies. Repositories with the same proxy share its limit.
#[derive(Debug, Default)]
pub struct ProxyLimits {
    requests_per_second: Option<u64>,
    limits: Mutex<HashMap<Proxy, Arc<TokenBucket>>>,
}

impl ProxyLimits {
    /// At most `requests_per_second` to each proxy; no limit if `None`.
    pub fn new(requests_per_second: Option<u64>) -> Self {
        Self { requests_per_second, limits: Mutex::default() }
    }

    /// Returns the limit of a proxy. All servers that are reached directly share one.
    pub fn for_proxy(&self, proxy: &Proxy) -> Arc<TokenBucket> {
        let mut limits = self.limits.lock();
        limits.entry(proxy.clone()).or_insert_with(|| Arc::new(TokenBucket::new(self.requests_per_second))).clone()
    }
}

/// Returns the pause before the first request to a proxy that was last overloaded `overloaded` ago, if ever. `random` is from 0
/// to 1.
pub fn start_pause(overloaded: Option<Duration>, random: f64) -> Duration {
    match overloaded {
        Some(ago) if ago < OVERLOADED_FOR => MAX_PAUSE.mul_f64(random.clamp(0.0, 1.0)),
        _ => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_proxy_has_its_own_limit() {
        let limits = ProxyLimits::new(Some(7));
        let via = |name: &str| limits.for_proxy(&Proxy::Via(name.into()));
        assert!(Arc::ptr_eq(&via("a"), &via("a")) && !Arc::ptr_eq(&via("a"), &via("b")));
        assert!(!Arc::ptr_eq(&via("a"), &limits.for_proxy(&Proxy::Direct)));
        assert_eq!(via("c").rate(), Some(7));
    }

    #[test]
    fn starts_pause_only_behind_an_overloaded_proxy() {
        let ms = Duration::from_millis;
        for (overloaded, random, expected) in [
            (None, 1.0, ms(0)),
            (Some(ms(0)), 0.0, ms(0)),
            (Some(ms(0)), 0.25, ms(250)),
            (Some(ms(9_999)), 1.0, ms(1000)),
            (Some(ms(10_000)), 1.0, ms(0)),
        ] {
            assert_eq!(start_pause(overloaded, random), expected, "{overloaded:?} {random}");
        }
    }
}
