//! Which bundles to evict when the store exceeds its limit.

use std::time::SystemTime;

use super::Facts;
use crate::image::ChainId;

/// The least recently used bundles that must go, so that the others and the `new` one have at most `limit` bytes together. The
/// new one replaces an older bundle of the same chain ID.
///
/// A last use later than `now` was recorded while the clock was ahead, so its real time is unknown. Such bundles go first; those in
/// use get a correct time at their next use.
pub(super) fn victims(all: &[(ChainId, Facts)], new: (ChainId, u64), limit: u64, now: SystemTime) -> Vec<ChainId> {
    let mut others: Vec<_> = all.iter().filter(|(chain, _)| *chain != new.0).collect();
    others.sort_by_key(|(_, facts)| (facts.used <= now, facts.used));
    let mut total = others.iter().fold(new.1, |sum, (_, facts)| sum.saturating_add(facts.size));
    let mut victims = Vec::new();
    for (chain, facts) in others {
        if total <= limit {
            break;
        }
        total = total.saturating_sub(facts.size);
        victims.push(*chain);
    }
    victims
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::image::Digest;

    #[test]
    fn least_recently_used_bundles_are_evicted() {
        let chain = |name: &str| ChainId(Digest::sha256(name.as_bytes()));
        let all = [("b", 10, 2), ("a", 10, 1), ("c", 10, 3)].map(|(name, size, second)| {
            (chain(name), Facts::new(size, UNIX_EPOCH + Duration::from_secs(second), None))
        });
        let cases: [(&str, u64, u64, &[&str]); 6] = [
            ("new", 10, 40, &[]),
            ("new", 11, 40, &["a"]),
            ("new", 21, 40, &["a", "b"]),
            ("new", 99, 40, &["a", "b", "c"]),
            // It replaces an older one, whose bytes do not count.
            ("a", 10, 30, &[]),
            ("a", 11, 30, &["b"]),
        ];
        let time = |second| UNIX_EPOCH + Duration::from_secs(second);
        for (name, size, limit, evicted) in cases {
            let evicted: Vec<_> = evicted.iter().map(|name| chain(name)).collect();
            assert_eq!(victims(&all, (chain(name), size), limit, time(3)), evicted, "{name} of {size} in {limit}");
        }
        // The last one was used while the clock was ahead.
        assert_eq!(victims(&all, (chain("new"), 11), 40, time(2)), [chain("c")]);
    }
}
