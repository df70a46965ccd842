//! Looks up which objects of a bundle are missing in their caches.

use bundles::bundle::{Bundle, ObjectIndex};

use crate::cache::Destination;

/// Objects by the result of their lookup.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Lookup {
    /// Objects that are not in the cache, or may not be, in the order of the plan.
    pub(super) missing: Vec<ObjectIndex>,
    /// Objects that are in the cache.
    pub(super) cached: Vec<ObjectIndex>,
}

/// Looks up objects of `bundle`, each in its destination. Blocks for one `stat` each. What a client behind a mount has cached is
/// unknown.
pub(super) fn look_up(bundle: &Bundle, objects: &[(ObjectIndex, Destination)]) -> Lookup {
    let mut lookup = Lookup::default();
    for (index, destination) in objects {
        let object = bundle.object(*index);
        let is_cached = match destination {
            Destination::Cache(cache) => cache.contains(&object.hash, object.raw_size),
            Destination::ThroughMount(_) => false,
        };
        if is_cached { &mut lookup.cached } else { &mut lookup.missing }.push(*index);
    }
    lookup
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write;

    use super::*;
    use crate::cache::PosixCache;
    use bundles::bundle::BundleObject;
    use bundles::image::{ChainId, Digest, ImageId};
    use bundles::object::{ContentHash, ObjectKind};
    use bundles::path::RootPath;

    fn object(name: u8, raw_size: u64) -> BundleObject {
        let path = RootPath::new("/x").unwrap();
        let (hash, kind) = (ContentHash::sha1([name; 20]), ObjectKind::File);
        BundleObject { kind, stored_size: 1, ..BundleObject::file(hash, raw_size, path) }
    }

    #[test]
    fn cached_objects_have_their_full_size_and_the_order_stays() {
        let dir = tempfile::tempdir().unwrap();
        let cache = PosixCache::new(dir.path());
        let objects = [object(9, 3), object(8, 3), object(7, 3), object(6, 0)];
        for (object, content) in [(&objects[1], "abc"), (&objects[2], "cut"), (&objects[3], "")] {
            let mut incoming = cache.begin(&object.hash, object.raw_size, b"/x").unwrap();
            incoming.write_all(content.as_bytes()).unwrap();
            incoming.commit().unwrap();
        }
        std::fs::write(dir.path().join(objects[2].hash.cache_path()), "c").unwrap();
        let image = ImageId { chain_id: ChainId(Digest::sha256(b"x")), manifest: None, reference: String::new() };
        let bundle = Bundle { objects: objects.to_vec(), ..Bundle::new(image, "r.example") };
        let [a, b, c, d] = [0, 1, 2, 3].map(ObjectIndex::new);
        let queries = [d, c, a, b].map(|index| (index, Destination::Cache(cache.clone())));
        assert_eq!(look_up(&bundle, &queries), Lookup { missing: vec![c, a], cached: vec![d, b] });
    }
}
