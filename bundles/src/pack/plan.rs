//! Which objects of a bundle go into which pack.
//!
//! Objects of one layer stand together, for images share layers, and what several images need of a layer is much the same:
//! so a pack that is published already is used again where most of it is wanted.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::Index;
use crate::bundle::{Bundle, BundleObject, PackRef, ProfileSet, Share};
use crate::object::{ContentHash, ObjectKind};

/// How packs are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Larger objects are fetched on their own: for them the round trip matters less than the bytes.
    pub object: u64,
    /// What is less than this stands together with what is less of other layers.
    pub least: u64,
    /// The most bytes of a pack.
    pub most: u64,
    /// A pack that is there is used again if at least this share of its objects' bytes is wanted.
    pub reuse: Share,
}

impl Default for Limits {
    /// 64 KiB take 3 ms at 200 Mbit/s, where a round trip takes 20. Packs of objects of up to 128 KiB take half as much again in the
    /// repository, for one object in twenty: see `docs/src/benchmarks.md`.
    fn default() -> Self {
        Self { object: 64 << 10, least: 256 << 10, most: 32 << 20, reuse: Share::of(9, 10) }
    }
}

/// What is to become of a bundle's small objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackPlan {
    /// Packs that are there, by their place among those given, which hold what is wanted.
    pub reused: Vec<usize>,
    /// Packs to be made, each with the places of its objects in the bundle.
    pub new: Vec<Vec<usize>>,
}

/// Whether an object is for a pack.
fn is_small(object: &BundleObject, limits: &Limits) -> bool {
    // Catalogs are pinned by the client and of another kind; only the image's repository has packs.
    object.repository == 0
        && object.stored_size <= limits.object
        && matches!(object.kind, ObjectKind::File | ObjectKind::Chunk)
}

/// Decides for a bundle, given the packs that are published.
pub fn plan(bundle: &Bundle, published: &[(PackRef, Index)], limits: &Limits) -> PackPlan {
    let mut left: HashMap<(ContentHash, ObjectKind), usize> = bundle
        .objects
        .iter()
        .enumerate()
        .filter(|(_, object)| is_small(object, limits))
        .map(|(place, object)| ((object.hash, object.kind), place))
        .collect();
    let reused = reuse(&mut left, published, limits);
    let mut places: Vec<usize> = left.into_values().collect();
    places.sort_unstable();
    PackPlan { reused, new: group(bundle, &places, limits) }
}

/// Takes the published packs of which most is wanted, those with most of it first, and what they hold out of `left`.
fn reuse(
    left: &mut HashMap<(ContentHash, ObjectKind), usize>,
    published: &[(PackRef, Index)],
    limits: &Limits,
) -> Vec<usize> {
    let wanted = |index: &Index, left: &HashMap<_, _>| {
        let objects = index.objects().iter().filter(|object| left.contains_key(&(object.hash, object.kind)));
        objects.map(|object| object.stored_size).sum::<u64>()
    };
    let mut by_gain: Vec<(u64, usize)> =
        published.iter().enumerate().map(|(place, (_, index))| (wanted(index, left), place)).collect();
    by_gain.sort_by(|(a, a_place), (b, b_place)| {
        (b, published[*a_place].0.digest).cmp(&(a, published[*b_place].0.digest))
    });
    let mut reused = Vec::new();
    for (_, place) in by_gain {
        let index = &published[place].1;
        let (gain, all) = (wanted(index, left), index.objects().iter().map(|object| object.stored_size).sum());
        if gain > 0 && Share::of(gain, all) >= limits.reuse {
            for object in index.objects() {
                left.remove(&(object.hash, object.kind));
            }
            reused.push(place);
        }
    }
    reused
}

/// Packs for these objects, in the order in which their first objects are needed.
fn group(bundle: &Bundle, places: &[usize], limits: &Limits) -> Vec<Vec<usize>> {
    let size = |places: &[usize]| places.iter().map(|place| bundle.objects[*place].stored_size).sum::<u64>();
    let mut by_layer: BTreeMap<(ProfileSet, Option<&[u8]>), Vec<usize>> = BTreeMap::new();
    for place in places {
        let object = &bundle.objects[*place];
        by_layer.entry((object.need.profiles, object.layer())).or_default().push(*place);
    }
    let mut small: BTreeMap<ProfileSet, Vec<usize>> = BTreeMap::new();
    let mut groups = Vec::new();
    for ((profiles, _), places) in by_layer {
        match size(&places) < limits.least {
            true => small.entry(profiles).or_default().extend(places),
            false => groups.push(places),
        }
    }
    groups.extend(small.into_values().map(|mut places| {
        places.sort_unstable();
        places
    }));
    let mut packs: Vec<Vec<usize>> = groups.iter().flat_map(|group| split(bundle, group, limits.most)).collect();
    // One object alone is no quicker in a pack.
    packs.retain(|pack| pack.len() > 1);
    packs.sort_unstable();
    packs
}

/// Cuts a group where a pack is full.
fn split(bundle: &Bundle, group: &[usize], most: u64) -> Vec<Vec<usize>> {
    let (mut packs, mut size) = (Vec::<Vec<usize>>::new(), 0);
    let mut seen = HashSet::new();
    for place in group.iter().filter(|place| seen.insert(**place)) {
        let bytes = bundle.objects[*place].stored_size;
        match packs.last_mut() {
            Some(pack) if size + bytes <= most => pack.push(*place),
            _ => {
                packs.push(vec![*place]);
                size = 0;
            }
        }
        size += bytes;
    }
    packs
}
