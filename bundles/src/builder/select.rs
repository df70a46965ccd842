//! Which objects a bundle has room for, and in which order they are expected to be needed.

use std::cmp::Ordering;

use super::Policy;
use crate::bundle::BundleObject;
use crate::object::ObjectKind;

/// What an object costs beside its bytes, in bytes: a request's round trip of 20 ms, in which a line of 200 Mbit/s carries
/// half a megabyte; a container that reads one file after the other loses that much each time.
const REQUEST: u64 = 512 << 10;

/// Microseconds of a start that are as good as its very beginning. It keeps an object that few need, but at once, from
/// coming before all that everybody needs a moment later.
const BEGINNING: u64 = 10_000;

/// Keeps the objects with the most benefit a byte within the budget, in order of expected need, and tells how many it
/// left out.
pub(super) fn select(objects: Vec<BundleObject>, policy: &Policy) -> (Vec<BundleObject>, u64) {
    let mut remaining = policy.max_bytes;
    let mut by_benefit = objects;
    by_benefit.sort_by(|a, b| benefit(b, a).then_with(|| order(a, b)));
    let before = by_benefit.len();
    by_benefit.retain(|object| match remaining.checked_sub(object.stored_size) {
        Some(rest) => {
            remaining = rest;
            true
        }
        None => false,
    });
    let dropped = (before - by_benefit.len()) as u64;
    by_benefit.sort_by(order);
    (by_benefit, dropped)
}

/// Compares expected benefit a byte: what a start is spared, with the probability that it is.
fn benefit(a: &BundleObject, b: &BundleObject) -> Ordering {
    let worth = |object: &BundleObject| {
        u128::from(object.need.expected().parts()) * u128::from(object.stored_size.saturating_add(REQUEST))
    };
    let bytes = |object: &BundleObject| u128::from(object.stored_size.max(1));
    (worth(a).saturating_mul(bytes(b))).cmp(&worth(b).saturating_mul(bytes(a)))
}

/// Compares when objects are expected to be needed: the typical time, put off the more the less probable the need is.
/// Catalogs stand before the files that they lead to, and the rest of the key makes the order the same everywhere.
pub(super) fn order(a: &BundleObject, b: &BundleObject) -> Ordering {
    let late = |object: &BundleObject| u128::from(object.need.typical_us.saturating_add(BEGINNING));
    let sure = |object: &BundleObject| u128::from(object.need.expected().parts().max(1));
    let is_file = |object: &BundleObject| object.kind != ObjectKind::Catalog;
    let expected = (late(a) * sure(b)).cmp(&(late(b) * sure(a)));
    let place = |object: &BundleObject| (object.need.first_us, object.repository);
    (is_file(a).cmp(&is_file(b)))
        .then(expected)
        .then_with(|| place(a).cmp(&place(b)))
        .then_with(|| (&a.path, a.offset, a.hash).cmp(&(&b.path, b.offset, b.hash)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::{Need, Share};
    use crate::object::ContentHash;
    use crate::path::RootPath;

    fn object(path: &str, stored_size: u64, share: Share, typical_us: u64) -> BundleObject {
        BundleObject {
            stored_size,
            need: Need { share, typical_us, ..Need::always(1) },
            ..BundleObject::file(ContentHash::sha1([0; 20]), stored_size, RootPath::new(path).unwrap())
        }
    }

    fn paths(objects: &[BundleObject]) -> Vec<String> {
        objects.iter().map(|object| object.path.to_string()).collect()
    }

    #[test]
    fn sooner_and_likelier_objects_come_first() {
        let half = Share::ratio(1, 2);
        let mut objects = vec![
            object("/c", 1, Share::ALL, 50_000),
            object("/b", 1, half, 15_000),
            object("/a", 1, half, 30_000),
            object("/now", 1, Share::ALL, 0),
            object("/also", 1, Share::ALL, 0),
            BundleObject { kind: ObjectKind::Catalog, ..object("/z", 1, Share::ALL, 0) },
        ];
        let policy = Policy::default();
        let expected = ["/z", "/also", "/now", "/b", "/c", "/a"];
        for _ in 0..objects.len() {
            assert_eq!(paths(&select(objects.clone(), &policy).0), expected);
            objects.rotate_left(1);
        }
    }

    #[test]
    fn the_budget_goes_to_the_most_benefit_per_byte() {
        let objects = [
            object("/small", 1_000, Share::ratio(1, 2), 90),
            object("/large", 10 << 20, Share::ALL, 10),
            object("/rare", 9 << 20, Share::ratio(1, 10), 20),
            object("/middle", 1 << 20, Share::ALL, 30),
        ];
        for (max_bytes, expected, dropped) in [
            (u64::MAX, &["/large", "/middle", "/small", "/rare"][..], 0),
            (12 << 20, &["/large", "/middle", "/small"], 1),
            // The next best that there is room for.
            (11 << 20, &["/middle", "/small", "/rare"], 1),
            (1_000, &["/small"], 3),
            (0, &[], 4),
        ] {
            let (chosen, out) = select(objects.to_vec(), &Policy { max_bytes, ..Policy::default() });
            assert_eq!((paths(&chosen), out), (expected.iter().map(ToString::to_string).collect(), dropped));
        }
    }
}
