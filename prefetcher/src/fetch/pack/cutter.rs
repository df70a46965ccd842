//! Cuts a stream of a pack's bytes into the requested objects.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bundles::bundle::{Bundle, BundleObject, ObjectIndex};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The extent of a requested object in its pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    /// Index of the object.
    pub(super) index: ObjectIndex,
    /// Offset of its first byte.
    pub(super) start: u64,
    /// Offset after its last byte.
    pub(super) end: u64,
}

/// The stored bytes of an object from a pack, not verified.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) index: ObjectIndex,
    pub(super) stored: Vec<u8>,
}

/// The received pieces of objects that lie across the seam of two parts, by their offsets.
#[derive(Debug)]
pub(super) struct Seams {
    pieces: Mutex<HashMap<ObjectIndex, BTreeMap<u64, Piece>>>,
    /// Memory of the pieces of all packs, in KiB.
    memory: Arc<Semaphore>,
}

/// A piece of an object, with its share of the memory.
type Piece = (Vec<u8>, OwnedSemaphorePermit);

/// The unit of memory for pieces.
const KIB: usize = 1 << 10;

/// Cuts the stream of one part.
#[derive(Debug)]
pub(super) struct Cutter {
    /// In the order of their offsets; the first `next` are done.
    slots: Vec<Slot>,
    next: usize,
    /// The stream's extent in the pack.
    start: u64,
    end: u64,
    /// Received bytes from the offset `kept_from` on that are still needed.
    kept: Vec<u8>,
    kept_from: u64,
    seams: Arc<Seams>,
}

impl Slot {
    /// The extent of `object`, if it is in a pack.
    pub(super) fn new(index: ObjectIndex, object: &BundleObject) -> Option<Self> {
        let start = object.packed?.offset;
        Some(Self { index, start, end: start.checked_add(object.stored_size)? })
    }

    /// The extents of some objects of a bundle in their pack, in the order of the pack. Objects of a pack do not overlap, which is
    /// checked when a bundle is decoded, so at most all bytes of the pack are cut out of it.
    pub(super) fn all(bundle: &Bundle, indices: impl Iterator<Item = ObjectIndex>) -> Vec<Self> {
        let mut slots: Vec<Self> = indices.filter_map(|index| Self::new(index, bundle.object(index))).collect();
        slots.sort_unstable_by_key(|slot| (slot.start, slot.index));
        slots
    }
}

impl Cutter {
    /// A cutter of the bytes from `start` to `end` of a pack. Each slot has some of them.
    pub(super) fn new(start: u64, end: u64, slots: Vec<Slot>, seams: Arc<Seams>) -> Self {
        Self { slots, next: 0, start, end, kept: Vec::new(), kept_from: start, seams }
    }

    /// Takes the next bytes, and adds the objects that they complete to `cuts`.
    pub(super) fn feed(&mut self, bytes: &[u8], cuts: &mut Vec<Cut>) {
        self.kept.extend_from_slice(bytes);
        let received = self.kept_from + self.kept.len() as u64;
        while let Some(slot) = self.slots.get(self.next) {
            let (from, to) = (slot.start.max(self.start), slot.end.min(self.end));
            if to > received {
                break;
            }
            // Slots are in the order of their offsets, and all bytes of the slots that are not done were kept.
            let bytes = &self.kept[(from - self.kept_from) as usize..(to - self.kept_from) as usize];
            let is_whole = from == slot.start && to == slot.end;
            let stored = if is_whole { Some(bytes.to_vec()) } else { self.seams.join(slot, from, bytes) };
            cuts.extend(stored.map(|stored| Cut { index: slot.index, stored }));
            self.next += 1;
        }
        let needed_from = self.slots.get(self.next).map_or(received, |slot| slot.start.max(self.start).min(received));
        if needed_from > self.kept_from {
            self.kept.drain(..(needed_from - self.kept_from) as usize);
            self.kept_from = needed_from;
        }
    }
}

impl Seams {
    /// Pieces of one pack. `memory` is for the pieces of all packs.
    pub(super) fn new(memory: Arc<Semaphore>) -> Self {
        Self { pieces: Mutex::default(), memory }
    }

    /// Keeps a piece of an object. Returns the whole object with its last piece. Without memory for the piece, the object is
    /// forgotten: it is downloaded on its own later.
    fn join(&self, slot: &Slot, from: u64, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut seams = self.pieces.lock();
        let Ok(memory) = self.memory.clone().try_acquire_many_owned(bytes.len().div_ceil(KIB) as u32) else {
            seams.remove(&slot.index);
            return None;
        };
        let pieces = seams.entry(slot.index).or_default();
        pieces.insert(from, (bytes.to_vec(), memory));
        let whole = pieces.values().map(|(bytes, _)| bytes.len()).sum::<usize>() as u64 == slot.end - slot.start;
        let pieces = whole.then(|| seams.remove(&slot.index)).flatten()?;
        Some(pieces.into_values().flat_map(|(bytes, _)| bytes).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seams(kib: usize) -> Arc<Seams> {
        Arc::new(Seams::new(Arc::new(Semaphore::new(kib))))
    }

    fn slot(index: u32, start: u64, end: u64) -> Slot {
        Slot { index: ObjectIndex::new(index), start, end }
    }

    /// The objects cut from a part of `pack` that is fed in pieces.
    fn cut(
        pack: &[u8],
        part: (u64, u64),
        slots: &[Slot],
        piece: usize,
        seams: &Arc<Seams>,
    ) -> Vec<(ObjectIndex, Vec<u8>)> {
        let (start, end) = part;
        let mut slots: Vec<Slot> = slots.iter().filter(|s| s.start < end && s.end > start).copied().collect();
        slots.sort_by_key(|slot| (slot.start, slot.index));
        let mut cutter = Cutter::new(start, end, slots, seams.clone());
        let mut cuts = Vec::new();
        for piece in pack[start as usize..end as usize].chunks(piece) {
            cutter.feed(piece, &mut cuts);
        }
        assert!(cutter.kept.is_empty());
        cuts.into_iter().map(|cut| (cut.index, cut.stored)).collect()
    }

    #[test]
    fn objects_are_cut_however_the_bytes_are_divided() {
        let pack: Vec<u8> = (0..100).collect();
        // Two that overlap, as only a hostile bundle has them, and an empty one.
        let slots = [slot(7, 10, 20), slot(8, 20, 20), slot(3, 30, 60), slot(4, 35, 50), slot(9, 99, 100)];
        for piece in [1, 3, 7, 100] {
            let mut cuts = cut(&pack, (0, 100), &slots, piece, &seams(8));
            cuts.sort();
            let mut expected: Vec<_> =
                slots.iter().map(|s| (s.index, pack[s.start as usize..s.end as usize].to_vec())).collect();
            expected.sort();
            assert_eq!(cuts, expected, "in pieces of {piece}");
        }
    }

    #[test]
    fn an_object_across_seams_is_whole_after_its_last_part() {
        let pack: Vec<u8> = (0..100).collect();
        let slots = [slot(0, 5, 15), slot(1, 18, 55)];
        let seams = seams(8);
        // In any order, and one of them twice, as after a failure.
        assert_eq!(cut(&pack, (40, 100), &slots, 7, &seams), []);
        assert_eq!(cut(&pack, (0, 20), &slots, 7, &seams), [(ObjectIndex::new(0), pack[5..15].to_vec())]);
        assert_eq!(cut(&pack, (40, 100), &slots, 9, &seams), []);
        assert_eq!(cut(&pack, (20, 40), &slots, 7, &seams), [(ObjectIndex::new(1), pack[18..55].to_vec())]);
    }

    #[test]
    fn pieces_at_seams_take_only_the_memory_that_there_is() {
        let pack: Vec<u8> = vec![7; 9 * KIB];
        let slots = [slot(0, 1, 3 * KIB as u64), slot(1, 5 * KIB as u64, 8 * KIB as u64)];
        let seams = seams(2);
        assert_eq!(cut(&pack, (0, 2 * KIB as u64), &slots, 100, &seams), []);
        assert_eq!(seams.memory.available_permits(), 0);
        // No memory for another one, and none for the rest of the first.
        assert_eq!(cut(&pack, (6 * KIB as u64, 7 * KIB as u64), &slots, 100, &seams), []);
        assert_eq!(cut(&pack, (2 * KIB as u64, 4 * KIB as u64), &slots, 100, &seams), []);
        assert!(seams.pieces.lock().is_empty());
        assert_eq!(seams.memory.available_permits(), 2);
    }
}
