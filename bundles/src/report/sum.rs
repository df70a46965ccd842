//! Sums over objects.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::bundle::{Bundle, BundleObject, Share};

/// Number and sizes of some objects.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Sum {
    /// Number of objects.
    pub objects: u64,
    /// Stored bytes, which a node transfers.
    pub stored: u64,
    /// Raw bytes, which a cache holds.
    pub raw: u64,
    /// Stored bytes that a start is expected to need: each object's, weighted by the probability of its need.
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

    /// Share of the stored bytes that a start is expected to need.
    pub fn weight(&self) -> Share {
        Share::ratio(self.expected, self.stored)
    }

    /// Sums of the objects of `bundle` by `key`. Objects for which it is `None` are not counted.
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
