//! A plan in portions that are looked up, and perhaps fetched, together.

use bundles::bundle::{Bundle, ObjectIndex, PackIndex};

/// How many objects are looked up in the cache at a time. Small, so that the first fetch starts at once.
const MOST: usize = 256;

/// Some objects of a plan.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Portion {
    /// The pack that they are in.
    pub(super) pack: Option<PackIndex>,
    /// Their places in the bundle, in the order of the plan.
    pub(super) objects: Vec<ObjectIndex>,
}

/// The portions of `plan`, in the order in which the first of each is needed: all that is wanted of a pack which `is_there`,
/// and what is in none.
pub(super) fn portions(bundle: &Bundle, plan: &[ObjectIndex], is_there: impl Fn(PackIndex) -> bool) -> Vec<Portion> {
    let mut portions: Vec<Portion> = Vec::new();
    let mut of_pack = std::collections::HashMap::new();
    let mut open = None;
    for &index in plan {
        let pack = bundle.object(index).packed.map(|packed| packed.pack).filter(|pack| is_there(*pack));
        let at = match pack {
            Some(pack) => *of_pack.entry(pack).or_insert(portions.len()),
            None => open.filter(|at: &usize| portions[*at].objects.len() < MOST).unwrap_or(portions.len()),
        };
        if at == portions.len() {
            portions.push(Portion { pack, objects: Vec::new() });
            // What comes behind a pack in the plan stays behind it.
            open = if pack.is_none() { Some(at) } else { None };
        }
        portions[at].objects.push(index);
    }
    portions
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
    fn a_pack_stands_where_its_first_object_is_needed() {
        let bundle = bundle(&[None, Some(1), Some(0), None, Some(1), Some(2), None]);
        let indices = |plan: &[u32]| plan.iter().copied().map(ObjectIndex::new).collect::<Vec<_>>();
        let portion =
            |pack: Option<u32>, objects: &[u32]| Portion { pack: pack.map(PackIndex::new), objects: indices(objects) };
        assert_eq!(
            portions(&bundle, &indices(&[0, 1, 2, 3, 4, 5, 6]), |pack| pack != PackIndex::new(2)),
            [portion(None, &[0]), portion(Some(1), &[1, 4]), portion(Some(0), &[2]), portion(None, &[3, 5, 6])]
        );
    }

    #[test]
    fn what_is_in_no_pack_comes_in_small_portions() {
        let bundle = bundle(&vec![None; 2 * MOST + 1]);
        let plan: Vec<ObjectIndex> = bundle.indices().collect();
        let sizes: Vec<usize> = portions(&bundle, &plan, |_| true).iter().map(|p| p.objects.len()).collect();
        assert_eq!(sizes, [MOST, MOST, 1]);
    }
}
