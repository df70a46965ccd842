//! The critical objects of a request: which of them are still to come, and whether a container would overtake them.
//!
//! A container wants its objects one after the other, at times that the traces tell. One that starts while the last of them are
//! still far off is as quick as one that waited for all of them, as long as each object is there when its turn comes. If not,
//! the CVMFS client fetches it while the daemon does, and node and line have the work twice.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use bundles::bundle::{Bundle, BundleObject, ObjectIndex};
use bundles::phase::Phase;

/// The objects are looked at in so many groups, in the order of need, for the answer is wanted many times a second.
const STAGES: usize = 64;
/// What an object costs beside its bytes, in bytes: to be asked for, looked up, made and registered.
const OBJECT: u64 = 16 << 10;
/// Once the container runs, it has half of the line and of the node's cores, and objects come so many times slower.
const SHARED: f64 = 2.0;

/// The critical objects of a request. None are known before its bundle is.
#[derive(Debug, Default)]
pub(super) struct Critical {
    known: bool,
    awaited: HashMap<ObjectIndex, Awaited>,
    /// Whether one of them will not come.
    missed: bool,
    /// In the order of need.
    stages: Vec<Stage>,
    /// Costs of what has come; not of what was there before, which says nothing of the pace.
    came: u64,
}

/// One that is still on its way.
#[derive(Debug, Clone, Copy)]
struct Awaited {
    stage: usize,
    cost: u64,
}

#[derive(Debug)]
struct Stage {
    /// When the first of its objects is wanted, from a container's start, at the earliest.
    wanted: Duration,
    /// Costs of those that are still on their way.
    awaited: u64,
}

impl Critical {
    /// Those of `plan`.
    pub(super) fn of(bundle: &Bundle, plan: &[ObjectIndex]) -> Self {
        let critical = critical_objects(bundle, plan);
        let (mut stages, mut awaited) = (Vec::new(), HashMap::with_capacity(critical.len()));
        let in_order: Vec<ObjectIndex> = plan.iter().copied().filter(|index| critical.contains(index)).collect();
        for indices in in_order.chunks(critical.len().div_ceil(STAGES).max(1)) {
            let objects = indices.iter().map(|index| bundle.object(*index));
            let wanted = objects.clone().map(|object| object.need.first_us).min().unwrap_or_default();
            let costs = objects.map(cost);
            awaited.extend(
                indices.iter().zip(costs.clone()).map(|(index, cost)| (*index, Awaited { stage: stages.len(), cost })),
            );
            let sum = costs.fold(0, u64::saturating_add);
            stages.push(Stage { wanted: Duration::from_micros(wanted), awaited: sum });
        }
        Self { known: true, awaited, missed: false, stages, came: 0 }
    }

    /// How many are still to come.
    pub(super) fn awaited(&self) -> usize {
        self.awaited.len()
    }

    /// Whether all are in the cache.
    pub(super) fn is_in(&self) -> bool {
        self.is_settled() && !self.missed
    }

    /// Whether all are in the cache or will never be.
    pub(super) fn is_settled(&self) -> bool {
        self.known && self.awaited.is_empty()
    }

    /// The object at this place of the bundle has come; whether it was awaited.
    pub(super) fn came(&mut self, index: ObjectIndex) -> bool {
        let cost = self.forget(index);
        self.came = self.came.saturating_add(cost.unwrap_or_default());
        cost.is_some()
    }

    /// It was in the cache before, or is not for this daemon to bring; whether it was awaited.
    pub(super) fn set_aside(&mut self, index: ObjectIndex) -> bool {
        self.forget(index).is_some()
    }

    /// It will not come.
    pub(super) fn missed(&mut self, index: ObjectIndex) {
        self.missed |= self.forget(index).is_some();
    }

    /// For how much longer a container had better not start, for each object to be there when it is wanted, if things go on as
    /// in the time `since` the request began. None as long as nothing has come.
    pub(super) fn head_start(&self, since: Duration) -> Option<Duration> {
        let each = since.as_secs_f64() * SHARED / (self.came > 0).then_some(self.came)? as f64;
        let mut before = 0_u64;
        let late = self.stages.iter().filter(|stage| stage.awaited > 0).map(|stage| {
            before = before.saturating_add(stage.awaited);
            let expected = Duration::try_from_secs_f64(before as f64 * each).unwrap_or(Duration::MAX);
            expected.saturating_sub(stage.wanted)
        });
        Some(late.max().unwrap_or_default())
    }

    fn forget(&mut self, index: ObjectIndex) -> Option<u64> {
        let Awaited { stage, cost } = self.awaited.remove(&index)?;
        self.stages[stage].awaited -= cost;
        Some(cost)
    }
}

/// Which objects of a plan are *critical*: those that traces needed before the container's main part. They are what a
/// start waits for. If there are none, the bundle knows nothing of phases, and all are.
fn critical_objects(bundle: &Bundle, plan: &[ObjectIndex]) -> HashSet<ObjectIndex> {
    let is_early = |i: &&ObjectIndex| bundle.object(**i).need.phase < Phase::Main;
    let early: HashSet<ObjectIndex> = plan.iter().filter(is_early).copied().collect();
    match early.is_empty() {
        true => plan.iter().copied().collect(),
        false => early,
    }
}

fn cost(object: &BundleObject) -> u64 {
    // A bundle can say anything of a size.
    object.stored_size.min(u64::from(u32::MAX)) + OBJECT
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

    /// Objects of a cost and a time of need in milliseconds.
    fn bundle(objects: &[(u64, u64)]) -> Bundle {
        let image = ImageId { chain_id: ChainId(Digest::sha256(b"x")), manifest: None, reference: String::new() };
        let object = |(number, (cost, first_ms)): (usize, &(u64, u64))| BundleObject {
            stored_size: cost.saturating_sub(OBJECT),
            need: Need { first_us: first_ms * 1000, ..Need::always(1) },
            ..BundleObject::file(ContentHash::sha1([number as u8; 20]), 1, RootPath::new("/x").unwrap())
        };
        Bundle { objects: objects.iter().enumerate().map(object).collect(), ..Bundle::new(image, "r.example") }
    }

    #[test]
    fn a_start_waits_until_it_would_meet_every_object() {
        let mib = 1 << 20;
        // 1 MiB at once, 1 MiB after 60 ms, 8 MiB after a second.
        let objects = [(mib, 0), (mib, 60), (8 * mib, 1000)];
        let after = |came: &[u32], since: Duration| {
            let mut critical = Critical::of(&bundle(&objects), &[0, 1, 2].map(ObjectIndex::new));
            came.iter().for_each(|index| assert!(critical.came(ObjectIndex::new(*index))));
            critical.head_start(since)
        };
        let shared = |ms: u32, wanted: u32| Some((MS * ms).mul_f64(SHARED).saturating_sub(MS * wanted));
        assert_eq!(after(&[], MS), None);
        // At 10 ms a MiB, 20 beside the container, the second is there after 20 ms, the third after 180.
        assert_eq!(after(&[0], 10 * MS), Some(Duration::ZERO));
        // At 50 ms a MiB the second is late, and the last in time.
        assert_eq!(after(&[0], 50 * MS), shared(50, 60));
        assert_eq!(after(&[0, 1], 200 * MS), shared(800, 1000));
        // At 1 s a MiB the last is what counts.
        assert_eq!(after(&[0], 1000 * MS), shared(9000, 1000));
        assert_eq!(after(&[0, 1, 2], 1000 * MS), Some(Duration::ZERO));
    }

    #[test]
    fn what_was_there_before_or_never_comes_says_nothing_of_the_pace() {
        let object = ObjectIndex::new;
        let mut critical =
            Critical::of(&bundle(&[(OBJECT, 0), (OBJECT, 0), (OBJECT, 0), (OBJECT, 0)]), &[0, 1, 2, 3].map(object));
        assert!(critical.set_aside(object(0)) && !critical.set_aside(object(0)));
        assert_eq!((critical.awaited(), critical.head_start(MS)), (3, None));
        assert!(critical.came(object(1)) && !critical.came(object(1)));
        assert_eq!(critical.head_start(MS), Some((2 * MS).mul_f64(SHARED)));
        assert!(critical.came(object(2)) && !critical.is_settled());
        critical.missed(object(3));
        critical.missed(object(3));
        assert!(critical.is_settled() && !critical.is_in());
        assert_eq!(critical.head_start(MS), Some(Duration::ZERO));
    }

    #[test]
    fn many_objects_are_looked_at_together_each_group_by_its_earliest() {
        let objects: Vec<(u64, u64)> = (0..10 * STAGES as u64 + 1).map(|n| (OBJECT, 1000 - n)).collect();
        let bundle_of_many = bundle(&objects);
        let plan: Vec<ObjectIndex> = bundle_of_many.indices().collect();
        let critical = Critical::of(&bundle_of_many, &plan);
        assert_eq!(critical.stages.len(), objects.len().div_ceil(11));
        assert_eq!(critical.stages[0].wanted, 990 * MS);
        assert_eq!(critical.stages.iter().map(|stage| stage.awaited).sum::<u64>(), OBJECT * objects.len() as u64);
        assert_eq!(Critical::of(&bundle(&[(u64::MAX, 0); 3]), &[0, 1, 2].map(ObjectIndex::new)).head_start(MS), None);
        assert!(Critical::of(&bundle(&[]), &[]).is_in() && !Critical::default().is_settled());
    }

    #[test]
    fn what_is_needed_before_the_main_part_is_critical() {
        let mut bundle = bundle(&[(1, 0); 4]);
        for (object, phase) in bundle.objects.iter_mut().zip([Phase::Main, Phase::StartUp, Phase::Main, Phase::SetUp]) {
            object.need.phase = phase;
        }
        let indices = |indices: &[u32]| indices.iter().copied().map(ObjectIndex::new).collect::<Vec<_>>();
        let critical = |plan: &[u32]| critical_objects(&bundle, &indices(plan));
        let set = |of: &[u32]| indices(of).into_iter().collect::<HashSet<_>>();
        assert_eq!(critical(&[0, 1, 2, 3]), set(&[1, 3]));
        assert_eq!(critical(&[2, 3]), set(&[3]), "only what is planned");
        assert_eq!(critical(&[0, 2]), set(&[0, 2]), "no phases");
    }
}
