//! Cuts a stream of a pack's bytes into the objects that are wanted of it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use bundles::bundle::{Bundle, BundleObject, ObjectIndex};

/// A wanted object's place in its pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    /// The object's place in the bundle.
    pub(super) index: ObjectIndex,
    /// Its first byte in the pack.
    pub(super) start: u64,
    /// Behind its last.
    pub(super) end: u64,
}

/// An object as it is in the pack, not checked.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) index: ObjectIndex,
    pub(super) stored: Vec<u8>,
}

/// The objects that lie across the seam of two parts: what has come of each.
#[derive(Debug, Default)]
pub(super) struct Seams(Mutex<HashMap<ObjectIndex, BTreeMap<u64, Vec<u8>>>>);

/// The state of one stream.
#[derive(Debug)]
pub(super) struct Cutter {
    /// In the order of their starts; the first `next` are done.
    slots: Vec<Slot>,
    next: usize,
    /// The stream's extent in the pack.
    start: u64,
    end: u64,
    /// What has come from `kept_from` on and is still wanted.
    kept: Vec<u8>,
    kept_from: u64,
    seams: Arc<Seams>,
}

impl Slot {
    /// Where `object`, which is `index` in its bundle, is.
    pub(super) fn of(index: ObjectIndex, object: &BundleObject) -> Option<Self> {
        let start = object.packed?.offset;
        Some(Self { index, start, end: start.checked_add(object.stored_size)? })
    }

    /// The places of some of a bundle's objects in their pack, in its order.
    pub(super) fn all(bundle: &Bundle, indices: impl Iterator<Item = ObjectIndex>) -> Vec<Self> {
        let mut slots: Vec<Self> = indices.filter_map(|index| Self::of(index, bundle.object(index))).collect();
        slots.sort_unstable_by_key(|slot| (slot.start, slot.index));
        slots
    }
}

impl Cutter {
    /// For the bytes from `start` to `end` of a pack, of which each slot has some.
    pub(super) fn new(start: u64, end: u64, slots: Vec<Slot>, seams: Arc<Seams>) -> Self {
        Self { slots, next: 0, start, end, kept: Vec::new(), kept_from: start, seams }
    }

    /// Takes the next bytes, and gives the objects that they complete.
    pub(super) fn feed(&mut self, bytes: &[u8], cuts: &mut Vec<Cut>) {
        self.kept.extend_from_slice(bytes);
        let came = self.kept_from + self.kept.len() as u64;
        while let Some(slot) = self.slots.get(self.next) {
            let (from, to) = (slot.start.max(self.start), slot.end.min(self.end));
            if to > came {
                break;
            }
            // Slots are in the order of their starts, and nothing was forgotten from the first on that is not done.
            let bytes = &self.kept[(from - self.kept_from) as usize..(to - self.kept_from) as usize];
            let stored = match (from, to) == (slot.start, slot.end) {
                true => Some(bytes.to_vec()),
                false => self.seams.join(slot, from, bytes),
            };
            cuts.extend(stored.map(|stored| Cut { index: slot.index, stored }));
            self.next += 1;
        }
        let wanted_from = self.slots.get(self.next).map_or(came, |slot| slot.start.max(self.start).min(came));
        if wanted_from > self.kept_from {
            self.kept.drain(..(wanted_from - self.kept_from) as usize);
            self.kept_from = wanted_from;
        }
    }
}

impl Seams {
    /// Notes a part of an object; gives the whole once all parts are there.
    fn join(&self, slot: &Slot, from: u64, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut seams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pieces = seams.entry(slot.index).or_default();
        pieces.insert(from, bytes.to_vec());
        let whole = pieces.values().map(Vec::len).sum::<usize>() as u64 == slot.end - slot.start;
        let pieces = whole.then(|| seams.remove(&slot.index)).flatten()?;
        Some(pieces.into_values().flatten().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(index: u32, start: u64, end: u64) -> Slot {
        Slot { index: ObjectIndex::new(index), start, end }
    }

    /// What comes out of `pack` from `start` to `end` when it is fed in pieces.
    fn cut(
        pack: &[u8],
        part: (u64, u64),
        slots: &[Slot],
        piece: usize,
        seams: &Arc<Seams>,
    ) -> Vec<(ObjectIndex, Vec<u8>)> {
        let (start, end) = part;
        let mut slots: Vec<Slot> = slots.iter().filter(|s| s.start < end && s.end > start).copied().collect();
        slots.sort_by_key(|slot| slot.start);
        let mut cutter = Cutter::new(start, end, slots, seams.clone());
        let mut cuts = Vec::new();
        for piece in pack[start as usize..end as usize].chunks(piece) {
            cutter.feed(piece, &mut cuts);
        }
        assert!(cutter.kept.is_empty());
        cuts.into_iter().map(|cut| (cut.index, cut.stored)).collect()
    }

    #[test]
    fn objects_are_cut_however_the_bytes_come() {
        let pack: Vec<u8> = (0..100).collect();
        // Two that overlap, as only a hostile bundle has them, and an empty one.
        let slots = [slot(7, 10, 20), slot(8, 20, 20), slot(3, 30, 60), slot(4, 35, 50), slot(9, 99, 100)];
        for piece in [1, 3, 7, 100] {
            let mut cuts = cut(&pack, (0, 100), &slots, piece, &Arc::default());
            cuts.sort();
            let mut expected: Vec<_> =
                slots.iter().map(|s| (s.index, pack[s.start as usize..s.end as usize].to_vec())).collect();
            // An empty object has no byte of any part.
            expected.retain(|(_, stored)| {
                !stored.is_empty() || cuts.iter().any(|(index, _)| *index == ObjectIndex::new(8))
            });
            expected.sort();
            assert_eq!(cuts, expected, "in pieces of {piece}");
        }
    }

    #[test]
    fn an_object_across_seams_is_whole_when_all_its_parts_came() {
        let pack: Vec<u8> = (0..100).collect();
        let slots = [slot(0, 5, 15), slot(1, 18, 55)];
        let seams = Arc::default();
        // In any order, and one of them twice, as after a failure.
        assert_eq!(cut(&pack, (40, 100), &slots, 7, &seams), []);
        assert_eq!(cut(&pack, (0, 20), &slots, 7, &seams), [(ObjectIndex::new(0), pack[5..15].to_vec())]);
        assert_eq!(cut(&pack, (40, 100), &slots, 9, &seams), []);
        assert_eq!(cut(&pack, (20, 40), &slots, 7, &seams), [(ObjectIndex::new(1), pack[18..55].to_vec())]);
    }
}
