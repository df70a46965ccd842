//! What the format guarantees about sizes, and about where objects are in packs.
//!
//! Objects of a pack do not overlap. A node that cuts a pack into objects relies on it: otherwise a small pack could become any
//! number of large objects in its memory.

use super::{Bundle, BundleObject, FORMAT};
use crate::codec::FormatError;

/// Largest object in bytes, stored or raw. Clients and servers cut larger files into chunks.
const MAX_SIZE: u64 = 1 << 40;

/// Checks the sizes of all objects and their locations in packs, whose indices are known to be valid.
pub(super) fn check(bundle: &Bundle) -> Result<(), FormatError> {
    let mut packed: Vec<&BundleObject> = Vec::new();
    for object in &bundle.objects {
        if object.stored_size > MAX_SIZE || object.raw_size > MAX_SIZE || object.offset > u64::MAX / 2 {
            return Err(FORMAT.content(format!("object {} has a size or offset that no object has", object.hash)));
        }
        if object.packed.is_some() {
            packed.push(object);
        }
    }
    packed.sort_unstable_by_key(|object| object.packed.map(|at| (at.pack.as_usize(), at.offset, object.stored_size)));
    let mut before = (usize::MAX, 0);
    for object in packed {
        let Some(location) = object.packed else { continue };
        let pack = location.pack.as_usize();
        let start = if before.0 == pack { before.1 } else { 0 };
        let end = location.offset.saturating_add(object.stored_size);
        let size = bundle.packs.get(pack).map_or(0, |pack| pack.size);
        if location.offset < start {
            return Err(FORMAT.content(format!("object {} overlaps another one in pack {pack}", object.hash)));
        }
        if end > size {
            let reason = format!("object {} ends at {end} in pack {pack}, which has {size} bytes", object.hash);
            return Err(FORMAT.content(reason));
        }
        before = (pack, end);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{PackIndex, PackLocation, PackRef};
    use super::*;
    use crate::image::{ChainId, Digest, ImageId};
    use crate::object::ContentHash;
    use crate::path::RootPath;

    /// Checks a bundle with two packs of 100 bytes and objects of these packs, offsets and stored sizes.
    fn checked(locations: &[(u32, u64, u64)]) -> Result<(), String> {
        let image = ImageId { chain_id: ChainId(Digest::sha256(b"x")), manifest: None, reference: String::new() };
        let object = |(pack, offset, stored_size): &(u32, u64, u64)| BundleObject {
            stored_size: *stored_size,
            packed: Some(PackLocation { pack: PackIndex::new(*pack), offset: *offset }),
            ..BundleObject::file(ContentHash::sha1([1; 20]), 1, RootPath::new("/x").unwrap())
        };
        let packs = [b"one", b"two"].map(|content| PackRef { digest: Digest::sha256(content), size: 100 }).into();
        let objects = locations.iter().map(object).collect();
        let bundle = Bundle { packs, objects, ..Bundle::new(image, "r.example") };
        let written = bundle.to_bytes().map(drop).map_err(|error| error.to_string());
        // Reading checks the same as writing.
        assert_eq!(check(&bundle).map_err(|error| error.to_string()), written);
        written
    }

    #[test]
    fn objects_of_a_pack_are_in_it_and_do_not_overlap() {
        assert_eq!(checked(&[(0, 90, 10), (0, 0, 40), (0, 40, 50), (1, 0, 100), (1, 100, 0), (0, 40, 0)]), Ok(()));
        for (locations, expected) in [
            (&[(0, 0, 41), (0, 40, 50)][..], "overlaps"),
            (&[(0, 40, 50), (1, 0, 1), (0, 40, 50)], "overlaps"),
            (&[(0, 0, 100), (0, 10, 10)], "overlaps"),
            (&[(0, 90, 11)], "ends at 101"),
            (&[(1, u64::MAX, 1)], "which has 100 bytes"),
            (&[(1, 0, u64::MAX)], "no object has"),
        ] {
            let message = checked(locations).unwrap_err();
            assert!(message.contains(expected), "{locations:?}: {message}");
        }
    }
}
