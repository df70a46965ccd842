//! What of a bundle is to be fetched.

use std::sync::Arc;

use bundles::bundle::{BundleObject, ObjectIndex};

use crate::cache::Sink;

/// Which of some objects are missing in a cache.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Missing {
    /// Indices of the missing ones, in the order in which they are wanted.
    pub(super) indices: Vec<ObjectIndex>,
    /// Indices of those that are there.
    pub(super) already_there: Vec<ObjectIndex>,
}

/// Looks up objects by their indices, each in the cache that is beside it. Blocks for a `stat` each.
pub(super) fn missing(objects: &[BundleObject], wanted: &[(ObjectIndex, Arc<dyn Sink>)]) -> Missing {
    let is_missing = |(i, sink): &&(ObjectIndex, Arc<dyn Sink>)| {
        let object = &objects[i.as_usize()];
        !sink.contains(&object.hash, object.raw_size)
    };
    let (missing, there): (Vec<_>, Vec<_>) = wanted.iter().partition(is_missing);
    let indices = |of: Vec<&(ObjectIndex, Arc<dyn Sink>)>| of.into_iter().map(|(i, _)| *i).collect();
    Missing { indices: indices(missing), already_there: indices(there) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cache::PosixCache;
    use bundles::object::{ContentHash, ObjectKind};
    use bundles::path::RootPath;

    fn object(name: u8, raw_size: u64) -> BundleObject {
        let path = RootPath::new("/x").unwrap();
        let (hash, kind) = (ContentHash::sha1([name; 20]), ObjectKind::File);
        BundleObject { kind, stored_size: 1, ..BundleObject::file(hash, raw_size, path) }
    }

    #[test]
    fn what_is_there_with_its_size_is_not_fetched_and_the_order_stays() {
        let dir = tempfile::tempdir().unwrap();
        let cache = PosixCache::new(dir.path());
        let objects = [object(9, 3), object(8, 3), object(7, 3), object(6, 0)];
        for (object, content) in [(&objects[1], "abc"), (&objects[2], "cut"), (&objects[3], "")] {
            let mut incoming = cache.begin(&object.hash, object.raw_size, b"/x").unwrap();
            incoming.write_all(content.as_bytes()).unwrap();
            incoming.commit().unwrap();
        }
        std::fs::write(dir.path().join(objects[2].hash.cache_path()), "c").unwrap();
        let cache: Arc<dyn Sink> = Arc::new(cache);
        let wanted = [3, 2, 0, 1].map(|i| (ObjectIndex::new(i), cache.clone()));
        assert_eq!(
            missing(&objects, &wanted),
            Missing {
                indices: [2, 0].map(ObjectIndex::new).into(),
                already_there: [3, 1].map(ObjectIndex::new).into()
            }
        );
    }
}
