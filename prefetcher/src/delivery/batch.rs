//! Divides a plan into batches of objects that are looked up, and perhaps downloaded, together.

use std::collections::HashMap;

use bundles::bundle::{Bundle, ObjectIndex, PackIndex};

/// Maximum number of objects of a batch without a pack. Small, so that the first download starts at once.
const MAX_OBJECTS: usize = 256;

/// Some objects of a plan.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Batch {
    /// The pack that holds them.
    pub(super) pack: Option<PackIndex>,
    /// In the order of the plan.
    pub(super) objects: Vec<ObjectIndex>,
}

/// Divides `plan` into batches, in the order in which the first object of each is needed: one for each pack that
/// `is_available`, with all planned objects of the pack, and others for the remaining objects.
pub(super) fn batches(bundle: &Bundle, plan: &[ObjectIndex], is_available: impl Fn(PackIndex) -> bool) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    let mut of_pack = HashMap::new();
    let mut open = None;
    for &index in plan {
        let pack = pack_of(bundle, index).filter(|pack| is_available(*pack));
        let number = match pack {
            Some(pack) => *of_pack.entry(pack).or_insert(batches.len()),
            None => open.filter(|open: &usize| batches[*open].objects.len() < MAX_OBJECTS).unwrap_or(batches.len()),
        };
        if number == batches.len() {
            batches.push(Batch { pack, objects: Vec::new() });
            // Objects after a pack in the plan stay after it.
            open = pack.is_none().then_some(number);
        }
        batches[number].objects.push(index);
    }
    batches
}

/// The pack that holds an object.
pub(super) fn pack_of(bundle: &Bundle, index: ObjectIndex) -> Option<PackIndex> {
    Some(bundle.object(index).packed?.pack)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use bundles::bundle::{BundleObject, PackLocation};
    use bundles::image::{ChainId, Digest, ImageId};
    use bundles::object::ContentHash;
    use bundles::path::RootPath;

    fn bundle(packs: &[Option<u32>]) -> Bundle {
        let image = ImageId { chain_id: ChainId(Digest::sha256(b"x")), manifest: None, reference: String::new() };
        let object = |pack: &Option<u32>| BundleObject {
            packed: pack.map(|pack| PackLocation { pack: PackIndex::new(pack), offset: 0 }),
            ..BundleObject::file(ContentHash::sha1([1; 20]), 1, RootPath::new("/x").unwrap())
        };
        Bundle { objects: packs.iter().map(object).collect(), ..Bundle::new(image, "r.example") }
    }

    #[test]
    fn a_pack_comes_where_its_first_object_is_needed() {
        let bundle = bundle(&[None, Some(1), Some(0), None, Some(1), Some(2), None]);
        let batch = |pack: Option<u32>, objects: &[u32]| Batch {
            pack: pack.map(PackIndex::new),
            objects: objects.iter().copied().map(ObjectIndex::new).collect(),
        };
        assert_eq!(
            batches(&bundle, &bundle.plan(None), |pack| pack != PackIndex::new(2)),
            [batch(None, &[0]), batch(Some(1), &[1, 4]), batch(Some(0), &[2]), batch(None, &[3, 5, 6])]
        );
    }

    #[test]
    fn objects_without_a_pack_come_in_small_batches() {
        let bundle = bundle(&vec![None; 2 * MAX_OBJECTS + 1]);
        let batches = batches(&bundle, &bundle.plan(None), |_| true);
        let sizes: Vec<usize> = batches.iter().map(|batch| batch.objects.len()).collect();
        assert_eq!(sizes, [MAX_OBJECTS, MAX_OBJECTS, 1]);
    }
}
