//! Which bundles go when there are too many.

use std::time::SystemTime;

use super::Facts;
use crate::image::ChainId;

/// Those that were not used for longest, as many as it takes for the rest and the `new` one, which is put in place of its
/// like, to have `limit` bytes at most together.
///
/// A use later than `now` was noted while the clock was ahead. Nobody knows when it was, so these go first: what is in use gets a
/// right time with its next one.
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
    fn the_longest_unused_go_and_never_the_new_one() {
        let chain = |name: &str| ChainId(Digest::of(name.as_bytes()));
        let all = [("b", 10, 2), ("a", 10, 1), ("c", 10, 3)].map(|(name, size, second)| {
            (chain(name), Facts { size, used: UNIX_EPOCH + Duration::from_secs(second), origin: None })
        });
        let cases: [(&str, u64, u64, &[&str]); 6] = [
            ("new", 10, 40, &[]),
            ("new", 11, 40, &["a"]),
            ("new", 21, 40, &["a", "b"]),
            ("new", 99, 40, &["a", "b", "c"]),
            // In place of an older one, whose bytes do not count.
            ("a", 10, 30, &[]),
            ("a", 11, 30, &["b"]),
        ];
        let at = |second| UNIX_EPOCH + Duration::from_secs(second);
        for (name, size, limit, gone) in cases {
            let gone: Vec<_> = gone.iter().map(|name| chain(name)).collect();
            assert_eq!(victims(&all, (chain(name), size), limit, at(3)), gone, "{name} of {size} in {limit}");
        }
        // The last was used when the clock was ahead.
        assert_eq!(victims(&all, (chain("new"), 11), 40, at(2)), [chain("c")]);
    }
}
