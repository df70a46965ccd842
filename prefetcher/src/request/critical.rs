//! The critical objects of a request: which of them are pending, and whether a container would overtake them.
//!
//! A container reads its objects one after the other, at times that the traces recorded. If it starts while the last of them are
//! still pending, it is as fast as one that waited for all of them, provided that each object is cached before it is read.
//! Otherwise the CVMFS client fetches the object at the same time as the daemon, and node and link do the work twice.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use bundles::bundle::{Bundle, BundleObject, ObjectIndex};
use bundles::phase::Phase;

/// Maximum number of groups. The recommended delay is computed many times a second, so it is computed per group of objects.
const GROUPS: usize = 64;
/// Cost of an object in addition to its bytes, in bytes: request, lookup, creation and registration.
const OBJECT_COST: u64 = 16 << 10;
/// A running container uses half of the link and of the node's cores, so objects take longer by this factor.
const SLOWDOWN: f64 = 2.0;

/// The critical objects of a request. None are known before its bundle is.
#[derive(Debug, Default)]
pub(super) struct Critical {
    known: bool,
    pending: HashMap<ObjectIndex, Pending>,
    /// Whether one of them was not fetched.
    missed: bool,
    /// In the order of need.
    groups: Vec<Group>,
    /// Cost of the objects that were fetched. Objects that were cached before say nothing about the rate.
    fetched_cost: u64,
}

/// A pending object.
#[derive(Debug, Clone, Copy)]
struct Pending {
    group: usize,
    cost: u64,
}

#[derive(Debug)]
struct Group {
    /// Earliest time at which a container reads one of its objects, from the container's start.
    needed_at: Duration,
    /// Cost of its pending objects.
    pending_cost: u64,
}

impl Critical {
    /// The critical objects of `plan`.
    pub(super) fn new(bundle: &Bundle, plan: &[ObjectIndex]) -> Self {
        let critical = critical_objects(bundle, plan);
        let in_order: Vec<ObjectIndex> = plan.iter().copied().filter(|index| critical.contains(index)).collect();
        let mut groups = Vec::new();
        let mut pending = HashMap::with_capacity(critical.len());
        for indices in in_order.chunks(critical.len().div_ceil(GROUPS).max(1)) {
            let objects = || indices.iter().map(|index| bundle.object(*index));
            let needed_at = objects().map(|object| object.need.first_us).min().unwrap_or_default();
            for (index, object) in indices.iter().zip(objects()) {
                pending.insert(*index, Pending { group: groups.len(), cost: cost(object) });
            }
            let pending_cost = objects().map(cost).fold(0, u64::saturating_add);
            groups.push(Group { needed_at: Duration::from_micros(needed_at), pending_cost });
        }
        Self { known: true, pending, missed: false, groups, fetched_cost: 0 }
    }

    /// Number of pending objects.
    pub(super) fn pending(&self) -> u64 {
        self.pending.len() as u64
    }

    /// Whether all are in the cache.
    pub(super) fn is_ready(&self) -> bool {
        self.is_settled() && !self.missed
    }

    /// Whether all are in the cache or will never be.
    pub(super) fn is_settled(&self) -> bool {
        self.known && self.pending.is_empty()
    }

    /// Records that an object was fetched; returns whether it was pending.
    pub(super) fn fetched(&mut self, index: ObjectIndex) -> bool {
        let cost = self.remove(index);
        self.fetched_cost = self.fetched_cost.saturating_add(cost.unwrap_or_default());
        cost.is_some()
    }

    /// Records that an object was cached before, or that this daemon does not fetch it; returns whether it was pending.
    pub(super) fn exclude(&mut self, index: ObjectIndex) -> bool {
        self.remove(index).is_some()
    }

    /// Records that an object will not be in the cache.
    pub(super) fn missed(&mut self, index: ObjectIndex) {
        self.missed |= self.remove(index).is_some();
    }

    /// Returns how long a container's start should still wait, so that each object is cached before it is read, at the rate of the
    /// time `since_start` of the request. `None` before the first object was fetched.
    pub(super) fn recommended_delay(&self, since_start: Duration) -> Option<Duration> {
        if self.fetched_cost == 0 {
            return None;
        }
        let seconds_per_cost = since_start.as_secs_f64() * SLOWDOWN / self.fetched_cost as f64;
        let mut cost_before = 0_u64;
        let delays = self.groups.iter().filter(|group| group.pending_cost > 0).map(|group| {
            cost_before = cost_before.saturating_add(group.pending_cost);
            let expected = Duration::try_from_secs_f64(cost_before as f64 * seconds_per_cost).unwrap_or(Duration::MAX);
            expected.saturating_sub(group.needed_at)
        });
        Some(delays.max().unwrap_or_default())
    }

    /// Returns the cost of an object that was pending until now.
    fn remove(&mut self, index: ObjectIndex) -> Option<u64> {
        let Pending { group, cost } = self.pending.remove(&index)?;
        self.groups[group].pending_cost -= cost;
        Some(cost)
    }
}

/// Returns the *critical* objects of a plan: those that traces needed before the container's main phase. A start waits for them.
/// If there are none, the bundle has no phases, and all objects are critical.
fn critical_objects(bundle: &Bundle, plan: &[ObjectIndex]) -> HashSet<ObjectIndex> {
    let is_early = |index: &&ObjectIndex| bundle.object(**index).need.phase < Phase::Main;
    let early: HashSet<ObjectIndex> = plan.iter().filter(is_early).copied().collect();
    if early.is_empty() { plan.iter().copied().collect() } else { early }
}

fn cost(object: &BundleObject) -> u64 {
    // A bundle may claim any size.
    object.stored_size.min(u64::from(u32::MAX)) + OBJECT_COST
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bundles::bundle::Need;
    use bundles::image::{ChainId, Digest, ImageId};
    use bundles::object::ContentHash;
    use bundles::path::RootPath;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn indices(range: std::ops::Range<u32>) -> Vec<ObjectIndex> {
        range.map(ObjectIndex::new).collect()
    }

    /// A bundle of objects with these costs and times of need in milliseconds.
    fn bundle(objects: &[(u64, u64)]) -> Bundle {
        let image = ImageId { chain_id: ChainId(Digest::sha256(b"x")), manifest: None, reference: String::new() };
        let object = |(number, (cost, first_ms)): (usize, &(u64, u64))| BundleObject {
            stored_size: cost.saturating_sub(OBJECT_COST),
            need: Need { first_us: first_ms * 1000, ..Need::always(1) },
            ..BundleObject::file(ContentHash::sha1([number as u8; 20]), 1, RootPath::new("/x").unwrap())
        };
        Bundle { objects: objects.iter().enumerate().map(object).collect(), ..Bundle::new(image, "r.example") }
    }

    #[test]
    fn the_delay_lets_every_object_arrive_before_it_is_read() {
        let mib = 1 << 20;
        // 1 MiB at once, 1 MiB after 60 ms, 8 MiB after a second.
        let objects = [(mib, 0), (mib, 60), (8 * mib, 1000)];
        let after = |fetched: &[u32], since: Duration| {
            let mut critical = Critical::new(&bundle(&objects), &indices(0..3));
            fetched.iter().for_each(|index| assert!(critical.fetched(ObjectIndex::new(*index))));
            critical.recommended_delay(since)
        };
        let slowed = |ms: u32, needed: u32| Some((MS * ms).mul_f64(SLOWDOWN).saturating_sub(MS * needed));
        assert_eq!(after(&[], MS), None);
        // At 10 ms per MiB, 20 beside the container, the second arrives after 20 ms, the third after 180.
        assert_eq!(after(&[0], 10 * MS), Some(Duration::ZERO));
        // At 50 ms per MiB the second is late, and the last in time.
        assert_eq!(after(&[0], 50 * MS), slowed(50, 60));
        assert_eq!(after(&[0, 1], 200 * MS), slowed(800, 1000));
        // At 1 s per MiB the last is decisive.
        assert_eq!(after(&[0], 1000 * MS), slowed(9000, 1000));
        assert_eq!(after(&[0, 1, 2], 1000 * MS), Some(Duration::ZERO));
    }

    #[test]
    fn only_fetched_objects_tell_the_rate() {
        let [a, b, c, d] = [0, 1, 2, 3].map(ObjectIndex::new);
        let mut critical = Critical::new(&bundle(&[(OBJECT_COST, 0); 4]), &[a, b, c, d]);
        assert!(critical.exclude(a) && !critical.exclude(a));
        assert_eq!((critical.pending(), critical.recommended_delay(MS)), (3, None));
        assert!(critical.fetched(b) && !critical.fetched(b));
        assert_eq!(critical.recommended_delay(MS), Some((2 * MS).mul_f64(SLOWDOWN)));
        assert!(critical.fetched(c) && !critical.is_settled());
        critical.missed(d);
        critical.missed(d);
        assert!(critical.is_settled() && !critical.is_ready());
        assert_eq!(critical.recommended_delay(MS), Some(Duration::ZERO));
    }

    #[test]
    fn many_objects_are_grouped_and_the_earliest_need_counts() {
        let objects: Vec<(u64, u64)> = (0..10 * GROUPS as u64 + 1).map(|n| (OBJECT_COST, 1000 - n)).collect();
        let critical = Critical::new(&bundle(&objects), &indices(0..objects.len() as u32));
        assert_eq!(critical.groups.len(), objects.len().div_ceil(11));
        assert_eq!(critical.groups[0].needed_at, 990 * MS);
        assert_eq!(
            critical.groups.iter().map(|group| group.pending_cost).sum::<u64>(),
            OBJECT_COST * objects.len() as u64
        );
        assert_eq!(Critical::new(&bundle(&[(u64::MAX, 0); 3]), &indices(0..3)).recommended_delay(MS), None);
        assert!(Critical::new(&bundle(&[]), &[]).is_ready() && !Critical::default().is_settled());
    }

    #[test]
    fn objects_needed_before_the_main_phase_are_critical() {
        let mut bundle = bundle(&[(1, 0); 4]);
        for (object, phase) in bundle.objects.iter_mut().zip([Phase::Main, Phase::StartUp, Phase::Main, Phase::SetUp]) {
            object.need.phase = phase;
        }
        let [a, b, c, d] = [0, 1, 2, 3].map(ObjectIndex::new);
        assert_eq!(critical_objects(&bundle, &[a, b, c, d]), HashSet::from([b, d]));
        assert_eq!(critical_objects(&bundle, &[c, d]), HashSet::from([d]), "only planned objects");
        assert_eq!(critical_objects(&bundle, &[a, c]), HashSet::from([a, c]), "no phases");
    }
}
