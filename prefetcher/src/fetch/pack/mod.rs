//! Objects out of packs: few requests for many objects.
//!
//! A pack is an ordinary file of the repository, so it comes as one object or as chunks: its [`Part`]s. Each part is read
//! as a stream, unpacked and cut ([`cutter`]) into the objects that are wanted, which are checked one by one against their own
//! hashes before they get into the sink. So nobody has to believe a pack. What a pack does not give is left to be
//! fetched on its own.

mod cutter;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bundles::bundle::{Bundle, BundleObject, ObjectIndex};
use bundles::object::{HashAlgorithm, Inflater};
pub use bundles::pack::{PackPart as Part, PublishedPack as Pack};
use futures::StreamExt;
use futures::future::{Either, ready, select};
use futures::stream::FuturesUnordered;
use tokio::task::JoinHandle;
use tracing::{debug, warn};

use super::failover::{Retry, Way};
use super::failure::{Cause, Failure};
use super::http::download::{Ask, Limits};
use super::large::PIECE;
use super::limits::per_request::Terms;
use super::single_flight::{Leader, Seat};
use super::{Fetcher, Key, Landing, Target, verify};
use cutter::{Cut, Cutter, Seams, Slot};

/// What a part is counted as: a piece that comes, one that is unpacked, what was cut of it, and what is being written.
const PART_COST: u64 = 4 << 20;
/// Larger objects of a pack are fetched on their own: they would have to be in memory as a whole.
pub const MOST_STORED: u64 = 1 << 20;
/// The same for their content.
pub const MOST_RAW: u64 = 4 << 20;
/// Objects are written together when they have so many raw bytes, or are so many.
const BATCH_RAW: u64 = 1 << 20;
const BATCH_OBJECTS: usize = 64;

/// The parts of `pack` that have bytes of some objects in it.
pub fn parts_of<'a>(pack: &'a Pack, objects: &[&BundleObject]) -> Vec<&'a Part> {
    let slots: Vec<Slot> =
        (0..).map(ObjectIndex::new).zip(objects).filter_map(|(i, object)| Slot::of(i, object)).collect();
    pack.parts.iter().filter(|part| slots.iter().any(|slot| has(part, slot))).collect()
}

fn limits(part: &Part) -> Limits {
    match part.compressed {
        true => Limits::compressed(part.raw_size),
        false => Limits::exactly(part.raw_size),
    }
}

/// Whether a part has bytes of a slot.
fn has(part: &Part, slot: &Slot) -> bool {
    slot.start < part.start + part.raw_size && slot.end > part.start
}

/// What came out of a pack.
#[derive(Debug, Default)]
pub struct FromPack {
    /// Bytes over the network.
    pub transferred: u64,
    /// The bundle's objects that were not got, and are not on their way either.
    pub left: Vec<ObjectIndex>,
    /// Some part was not to be had.
    pub lacks_parts: bool,
}

/// What is going on with one pack, shared by its parts.
struct Delivery<'a> {
    target: Target<'a>,
    bundle: &'a Arc<Bundle>,
    /// Objects that are still wanted.
    leaders: Mutex<HashMap<ObjectIndex, Leader<'a, Key, Landing>>>,
    /// Objects whose bytes in the pack are wrong.
    spoiled: Mutex<HashSet<ObjectIndex>>,
    transferred: Mutex<u64>,
    delivered: &'a (dyn Fn(ObjectIndex) + Sync),
}

impl Fetcher {
    /// Brings those of `wanted` objects of `bundle` that are in `pack` into the sink; tells `delivered` of each.
    pub async fn fetch_pack(
        &self,
        target: Target<'_>,
        bundle: &Arc<Bundle>,
        pack: &Pack,
        wanted: &[ObjectIndex],
        terms: Terms<'_>,
        delivered: &(dyn Fn(ObjectIndex) + Sync),
    ) -> FromPack {
        let (mut left, mut leaders) = (Vec::new(), HashMap::new());
        for &index in wanted {
            let object = bundle.object(index);
            match self.flights.board(&(target.sink_number, object.hash)) {
                Seat::Leader(leader) if fits(object) => _ = leaders.insert(index, leader),
                // On its way already, or not for a pack: to be waited for, or fetched, on its own.
                _ => left.push(index),
            }
        }
        let slots = Slot::all(bundle, leaders.keys().copied());
        let parts = pack.parts.iter().filter(|part| slots.iter().any(|slot| has(part, slot)));
        let (spoiled, transferred) = Default::default();
        let leaders = Mutex::new(leaders);
        let delivery = Delivery { target, bundle, leaders, spoiled, transferred, delivered };
        let seams = Arc::new(Seams::default());
        let parts = parts.map(|part| self.fetch_part(&delivery, part, &slots, &seams, terms));
        // What bounds them are memory and the window; they are asked for in the order of need.
        let mut coming: FuturesUnordered<_> = parts.collect();
        let mut lacks_parts = false;
        while let Some(result) = coming.next().await {
            if let Err(error) = result {
                lacks_parts = true;
                warn!(%error, "a part of a pack was not to be had");
            }
        }
        drop(coming);
        // Their joiners, if any, are told that it is anybody's turn.
        left.extend(lock(&delivery.leaders).drain().map(|(index, _)| index));
        left.sort_unstable();
        let transferred = *lock(&delivery.transferred);
        FromPack { transferred, left, lacks_parts }
    }

    async fn fetch_part(
        &self,
        delivery: &Delivery<'_>,
        part: &Part,
        slots: &[Slot],
        seams: &Arc<Seams>,
        terms: Terms<'_>,
    ) -> Result<(), Failure> {
        let _turn = terms.own.turn().await?;
        let _memory = self.streams.take(PART_COST).await?;
        let routes = delivery.target.routes;
        let path = part.hash.url_path(part.kind);
        let mut tries = Retry::new(routes);
        while let Some(turn) = tries.next().await {
            // Of another attempt some may be there.
            let open = delivery.open(slots, part);
            if open.is_empty() {
                return Ok(());
            }
            let url = routes.url(turn.way, &path);
            let ask = Ask { url: &url, limits: limits(part), range: None, fresh: turn.fresh, own: terms.own.bucket() };
            let cutter = Cutter::new(part.start, part.start + part.raw_size, open, seams.clone());
            let opener = Opener::new(part, cutter);
            let _place = routes.enter(turn.way, terms.rank).await;
            match self.stream_part(delivery, opener, turn.way, &ask).await {
                // Everything that was wanted was checked on its own.
                Err(failure) if failure.cause == Cause::Verification && delivery.open(slots, part).is_empty() => {
                    debug!(%url, error = %failure, "the pack is not what it should be, but its objects are");
                    return Ok(());
                }
                Err(failure) => tries.failed(failure)?,
                done => return done,
            }
        }
        Err(tries.failure())
    }

    async fn stream_part(
        &self,
        delivery: &Delivery<'_>,
        mut opener: Opener,
        way: Way,
        ask: &Ask<'_>,
    ) -> Result<(), Failure> {
        let mut body = self.open(delivery.target.routes, way, ask).await?;
        let mut writing = Writing::new();
        let mut piece = body.piece(PIECE).await?;
        while !piece.is_empty() {
            *lock(&delivery.transferred) += piece.len() as u64;
            // The next one comes while this one is unpacked.
            let feed = Box::pin(self.cores.run(move |_| opener.feed(&piece)));
            let (fed, next) = match select(feed, Box::pin(body.piece(PIECE))).await {
                Either::Left((fed, next)) => (fed, Either::Left(next)),
                Either::Right((next, feed)) => (feed.await, Either::Right(ready(next))),
            };
            let cuts;
            (opener, cuts) = fed?;
            for batch in batches(cuts, delivery.bundle) {
                writing.push(self.write(delivery, batch));
                while writing.len() > self.cores.count() {
                    delivery.written(writing.next().await)?;
                }
            }
            piece = delivery.meanwhile(next, &mut writing).await??;
        }
        while let Some(written) = writing.next().await {
            delivery.written(Some(written))?;
        }
        opener.finish()
    }

    /// Begins to check and write some objects; each with what came of it.
    fn write(&self, delivery: &Delivery<'_>, batch: Vec<Cut>) -> JoinHandle<Result<Vec<Written>, Failure>> {
        let (sink, bundle) = (delivery.target.sink.clone(), delivery.bundle.clone());
        self.cores.start(move |scratch| {
            let put = |cut: Cut| {
                let object = bundle.object(cut.index);
                match verify::put(scratch, &*sink, object, &cut.stored) {
                    Err(failure) if failure.cause == Cause::Write => Err(failure),
                    result => Ok((cut.index, result)),
                }
            };
            batch.into_iter().map(put).collect()
        })
    }
}

type Written = (ObjectIndex, Result<(), Failure>);
/// Objects that are being checked and written.
type Writing = FuturesUnordered<JoinHandle<Result<Vec<Written>, Failure>>>;

impl Delivery<'_> {
    /// Those of `slots` that `part` has bytes of and that are still wanted.
    fn open(&self, slots: &[Slot], part: &Part) -> Vec<Slot> {
        let (leaders, spoiled) = (lock(&self.leaders), lock(&self.spoiled));
        let is_open =
            |slot: &&Slot| has(part, slot) && leaders.contains_key(&slot.index) && !spoiled.contains(&slot.index);
        slots.iter().filter(is_open).copied().collect()
    }

    /// Waits for `work`, and takes note of what is written until then: on a slow line, what has come is not to wait for what
    /// comes next.
    async fn meanwhile<T>(&self, work: impl Future<Output = T>, writing: &mut Writing) -> Result<T, Failure> {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Ok(done),
                Some(batch) = writing.next(), if !writing.is_empty() => self.written(Some(batch))?,
            }
        }
    }

    fn written(
        &self,
        batch: Option<Result<Result<Vec<Written>, Failure>, tokio::task::JoinError>>,
    ) -> Result<(), Failure> {
        let Some(batch) = batch else { return Ok(()) };
        let batch = batch.map_err(|e| Failure::write(format!("the daemon is stopping or has a defect: {e}")))??;
        for (index, result) in batch {
            let object = self.bundle.object(index);
            if let Err(error) = result {
                debug!(object = %object.hash, %error, "not in its pack as it should be");
                lock(&self.spoiled).insert(index);
            } else if let Some(leader) = lock(&self.leaders).remove(&index) {
                leader.land((Ok(()), (self.target.repository.to_owned(), object.kind)));
                (self.delivered)(index);
            }
        }
        Ok(())
    }
}

/// Whether an object can come out of a pack.
fn fits(object: &BundleObject) -> bool {
    object.packed.is_some()
        && object.hash.algorithm == HashAlgorithm::Sha1
        && object.stored_size <= MOST_STORED
        && object.raw_size <= MOST_RAW
}

/// The stream of one part, unpacked and cut. Its hash is nobody's concern: those of the objects in it are.
struct Opener {
    inflater: Option<Inflater>,
    cutter: Cutter,
}

impl Opener {
    fn new(part: &Part, cutter: Cutter) -> Self {
        Self { inflater: part.compressed.then(|| Inflater::new(part.hash, part.raw_size)), cutter }
    }

    fn feed(mut self, stored: &[u8]) -> Result<(Self, Vec<Cut>), Failure> {
        let mut cuts = Vec::new();
        match &mut self.inflater {
            None => self.cutter.feed(stored, &mut cuts),
            Some(inflater) => {
                let cutter = &mut self.cutter;
                inflater.feed(stored, |raw| {
                    cutter.feed(raw, &mut cuts);
                    Ok::<_, Failure>(())
                })?;
            }
        }
        Ok((self, cuts))
    }

    fn finish(self) -> Result<(), Failure> {
        Ok(self.inflater.map_or(Ok(()), Inflater::finish)?)
    }
}

/// Portions of work for one core.
fn batches(cuts: Vec<Cut>, bundle: &Bundle) -> Vec<Vec<Cut>> {
    let (mut batches, mut raw): (Vec<Vec<Cut>>, u64) = (Vec::new(), BATCH_RAW);
    for cut in cuts {
        let size = bundle.object(cut.index).raw_size;
        if raw + size > BATCH_RAW || batches.last().is_none_or(|batch| batch.len() >= BATCH_OBJECTS) {
            batches.push(Vec::new());
            raw = 0;
        }
        raw += size;
        if let Some(batch) = batches.last_mut() {
            batch.push(cut);
        }
    }
    batches
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
