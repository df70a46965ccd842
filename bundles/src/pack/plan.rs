//! Which objects of a bundle go into which pack.
//!
//! Objects of one layer go into the same pack: images share layers, and different images need much the same objects of a
//! layer. So a published pack is used again if the new bundle needs most of it.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::Index;
use crate::bundle::{Bundle, BundleObject, ObjectIndex, PackRef, ProfileSet, Share};
use crate::object::{ContentHash, ObjectKind};

/// How objects are grouped into packs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackLimits {
    /// Largest object of a pack, in stored bytes. Larger ones are fetched on their own: for them the round trip matters
    /// less than the bytes.
    pub max_object: u64,
    /// A layer with fewer bytes to pack shares a pack with other such layers.
    pub min_pack: u64,
    /// Largest pack, in bytes.
    pub max_pack: u64,
    /// A published pack is used again if the bundle needs at least this share of its bytes.
    pub min_reuse: Share,
}

impl Default for PackLimits {
    /// 64 KiB take 3 ms at 200 Mbit/s, where a round trip takes 20 ms. With objects of up to 128 KiB, packs would take
    /// half as much space again in the repository for one object in twenty: see `docs/src/benchmarks.md`.
    fn default() -> Self {
        Self { max_object: 64 << 10, min_pack: 256 << 10, max_pack: 32 << 20, min_reuse: Share::ratio(9, 10) }
    }
}

/// How a bundle's small objects are packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackPlan {
    /// Published packs to use again, by their positions among those given.
    pub reused: Vec<usize>,
    /// The objects of each new pack.
    pub new: Vec<Vec<ObjectIndex>>,
}

/// Whether an object belongs into a pack.
fn is_small(object: &BundleObject, limits: &PackLimits) -> bool {
    // Clients pin catalogs, so these stay outside packs; only the image's repository has packs.
    object.repository == 0
        && object.stored_size <= limits.max_object
        && matches!(object.kind, ObjectKind::File | ObjectKind::Chunk)
}

/// Plans the packs of a bundle, given those that are published already.
pub fn plan(bundle: &Bundle, published: &[(PackRef, Index)], limits: &PackLimits) -> PackPlan {
    let mut unpacked: HashMap<(ContentHash, ObjectKind), ObjectIndex> = bundle
        .indices()
        .map(|index| (index, bundle.object(index)))
        .filter(|(_, object)| is_small(object, limits))
        .map(|(index, object)| ((object.hash, object.kind), index))
        .collect();
    let reused = reuse(&mut unpacked, published, limits);
    let mut objects: Vec<ObjectIndex> = unpacked.into_values().collect();
    objects.sort_unstable();
    PackPlan { reused, new: group(bundle, &objects, limits) }
}

/// Chooses the published packs most of whose bytes the bundle needs, those with the most such bytes first, and removes
/// their objects from `unpacked`.
fn reuse(
    unpacked: &mut HashMap<(ContentHash, ObjectKind), ObjectIndex>,
    published: &[(PackRef, Index)],
    limits: &PackLimits,
) -> Vec<usize> {
    let needed_bytes = |index: &Index, unpacked: &HashMap<_, _>| {
        let objects = index.objects().iter().filter(|object| unpacked.contains_key(&(object.hash, object.kind)));
        objects.map(|object| object.stored_size).sum::<u64>()
    };
    let mut by_gain: Vec<(u64, usize)> =
        published.iter().enumerate().map(|(position, (_, index))| (needed_bytes(index, unpacked), position)).collect();
    by_gain.sort_by(|(a_gain, a), (b_gain, b)| (b_gain, published[*a].0.digest).cmp(&(a_gain, published[*b].0.digest)));
    let mut reused = Vec::new();
    for (_, position) in by_gain {
        let index = &published[position].1;
        let gain = needed_bytes(index, unpacked);
        let all = index.objects().iter().map(|object| object.stored_size).sum();
        if gain > 0 && Share::ratio(gain, all) >= limits.min_reuse {
            for object in index.objects() {
                unpacked.remove(&(object.hash, object.kind));
            }
            reused.push(position);
        }
    }
    reused
}

/// Groups these objects into packs, ordered by the first object of each.
fn group(bundle: &Bundle, objects: &[ObjectIndex], limits: &PackLimits) -> Vec<Vec<ObjectIndex>> {
    let size = |objects: &[ObjectIndex]| objects.iter().map(|index| bundle.object(*index).stored_size).sum::<u64>();
    let mut by_layer: BTreeMap<(ProfileSet, Option<&[u8]>), Vec<ObjectIndex>> = BTreeMap::new();
    for index in objects {
        let object = bundle.object(*index);
        by_layer.entry((object.need.profiles, object.layer())).or_default().push(*index);
    }
    let mut small: BTreeMap<ProfileSet, Vec<ObjectIndex>> = BTreeMap::new();
    let mut groups = Vec::new();
    for ((profiles, _), layer) in by_layer {
        if size(&layer) < limits.min_pack {
            small.entry(profiles).or_default().extend(layer);
        } else {
            groups.push(layer);
        }
    }
    groups.extend(small.into_values().map(|mut group| {
        group.sort_unstable();
        group
    }));
    let mut packs: Vec<Vec<ObjectIndex>> =
        groups.iter().flat_map(|group| split(bundle, group, limits.max_pack)).collect();
    // A pack of one object saves no request.
    packs.retain(|pack| pack.len() > 1);
    packs.sort_unstable();
    packs
}

/// Cuts a group into packs of at most `max_pack` bytes.
fn split(bundle: &Bundle, group: &[ObjectIndex], max_pack: u64) -> Vec<Vec<ObjectIndex>> {
    let mut packs = Vec::<Vec<ObjectIndex>>::new();
    let mut size = 0;
    let mut seen = HashSet::new();
    for index in group.iter().filter(|index| seen.insert(**index)) {
        let bytes = bundle.object(*index).stored_size;
        match packs.last_mut() {
            Some(pack) if size + bytes <= max_pack => pack.push(*index),
            _ => {
                packs.push(vec![*index]);
                size = 0;
            }
        }
        size += bytes;
    }
    packs
}
