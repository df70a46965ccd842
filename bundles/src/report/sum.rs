//! Objects, summed.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::bundle::{Bundle, BundleObject, Share};

/// Objects, summed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Sum {
    /// How many.
    pub objects: u64,
    /// Bytes to transfer.
    pub stored: u64,
    /// Bytes in a cache.
    pub raw: u64,
    /// Bytes to transfer that a start is expected to need: each object's by the probability that it is needed.
    pub expected: u64,
}

impl Sum {
    /// Adds one object.
    pub fn add(&mut self, object: &BundleObject) {
        let probability = u128::from(object.need.expected().parts());
        let expected = u128::from(object.stored_size) * probability / u128::from(Share::ALL.parts());
        self.objects += 1;
        self.stored = self.stored.saturating_add(object.stored_size);
        self.raw = self.raw.saturating_add(object.raw_size);
        self.expected = self.expected.saturating_add(expected as u64);
    }

    /// What share of the bytes a start is expected to need.
    pub fn weight(&self) -> Share {
        Share::of(self.expected, self.stored)
    }

    /// The objects of `bundle`, summed by what `key` says of them; those of which it says nothing are left out.
    pub fn by<K: Ord>(bundle: &Bundle, key: impl Fn(&BundleObject) -> Option<K>) -> BTreeMap<K, Self> {
        let mut sums = BTreeMap::<K, Self>::new();
        for object in &bundle.objects {
            if let Some(key) = key(object) {
                sums.entry(key).or_default().add(object);
            }
        }
        sums
    }
}
