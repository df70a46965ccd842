//! What of a bundle is to be fetched.

use bundles::bundle::BundleObject;

use crate::sink::Sink;

/// How many objects are looked up in the cache at a time. Small, so that the first fetch starts at once.
pub const BATCH: usize = 256;

/// Which of some objects are missing in a cache.
#[derive(Debug, PartialEq, Eq)]
pub struct Missing {
    /// Indices of the missing ones, in the order of the bundle.
    pub indices: Vec<usize>,
    /// How many are there.
    pub already_there: u64,
}

/// Looks up the objects of `range`. Blocks for a `stat` each.
pub fn missing(objects: &[BundleObject], range: std::ops::Range<usize>, sink: &dyn Sink) -> Missing {
    let wanted = range.len();
    let indices: Vec<usize> = range.filter(|&i| !sink.contains(&objects[i].hash, objects[i].raw_size)).collect();
    Missing { already_there: (wanted - indices.len()) as u64, indices }
}

/// The ranges in which `count` objects are looked up.
pub fn batches(count: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    (0..count).step_by(BATCH).map(move |from| from..count.min(from + BATCH))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sink::PosixCache;
    use bundles::object::{ContentHash, ObjectKind};
    use bundles::path::RootPath;

    fn object(name: u8, raw_size: u64) -> BundleObject {
        let path = RootPath::new("/x").unwrap();
        let (hash, kind) = (ContentHash::sha1([name; 20]), ObjectKind::File);
        BundleObject { hash, kind, stored_size: 1, raw_size, used_in: 1, at_us: 0, path }
    }

    #[test]
    fn what_is_there_with_its_size_is_not_fetched_and_the_order_stays() {
        let dir = tempfile::tempdir().unwrap();
        let cache = PosixCache::new(dir.path());
        let objects = [object(9, 3), object(8, 3), object(7, 3), object(6, 0)];
        for (object, content) in [(&objects[1], "abc"), (&objects[2], "cut"), (&objects[3], "")] {
            let mut incoming = cache.begin(&object.hash).unwrap();
            incoming.write_all(content.as_bytes()).unwrap();
            incoming.commit().unwrap();
        }
        std::fs::write(dir.path().join(objects[2].hash.cache_path()), "c").unwrap();
        let found = missing(&objects, 0..4, &cache);
        assert_eq!(found, Missing { indices: vec![0, 2], already_there: 2 });
    }

    #[test]
    fn batches_cover_everything_once() {
        for count in [0, 1, BATCH - 1, BATCH, BATCH + 1, 5 * BATCH + 7] {
            assert_eq!(batches(count).flatten().collect::<Vec<_>>(), (0..count).collect::<Vec<_>>());
        }
    }
}
