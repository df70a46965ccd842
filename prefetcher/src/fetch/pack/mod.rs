//! Downloads objects in packs: few HTTP requests for many objects.
//!
//! A pack is an ordinary file of the repository, so it consists of one object or of chunks: its [`Part`]s. Each part is downloaded
//! as a stream, unpacked and cut ([`cutter`]) into the requested objects, which are verified one by one against their own hashes
//! before they get into the cache. So packs need not be trusted. Objects that a pack does not yield are left for [`Fetcher::fetch`].

mod cutter;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bundles::bundle::{Bundle, BundleObject, ObjectIndex};
use bundles::object::{ContentHash, HashAlgorithm, Inflater};
pub use bundles::pack::{PackPart as Part, PublishedPack as Pack};
use futures::StreamExt;
use futures::future::{Either, ready, select};
use futures::stream::FuturesUnordered;
use parking_lot::Mutex;
use tokio::task::{JoinError, JoinHandle};
use tracing::{debug, warn};

use super::attempt::{Attempt, Download};
use super::failure::{Cause, Failure};
use super::http::response::StoredSize;
use super::large::PIECE;
use super::limits::per_request::FetchPolicy;
use super::single_flight::{Flight, Leader};
use super::{Fetcher, FlightKey, FlightResult, Target, verify};
use cutter::{Cut, Cutter, Seams, Slot};

/// Memory of a part: a piece that is received, one that is unpacked, the objects that were cut of it and those being written. A hostile
/// pack can take half as much again.
const PART_MEMORY: u64 = 4 << 20;
/// Maximum bytes of the objects that are cut out of one piece. Packed objects are compressed, so a piece hardly grows when it is
/// unpacked.
const MAX_CUT: usize = 2 << 20;
/// Maximum stored bytes of an object that is taken from a pack. Larger ones are fetched on their own, because they would be in
/// memory as a whole.
pub const MAX_STORED: u64 = 1 << 20;
/// Maximum raw bytes of an object that is taken from a pack.
pub const MAX_RAW: u64 = 4 << 20;
/// Objects are written together up to this many raw or stored bytes.
const BATCH_BYTES: u64 = 1 << 20;
/// Maximum number of batches that are written at a time.
const MAX_WRITES: usize = 4;
/// Maximum number of objects that are written together.
const BATCH_OBJECTS: usize = 64;

/// Returns the parts of `pack` that have bytes of these objects of `bundle`.
pub fn parts_of<'a>(pack: &'a Pack, bundle: &Bundle, objects: &[ObjectIndex]) -> Vec<&'a Part> {
    parts_with(pack, &Slot::all(bundle, objects.iter().copied())).collect()
}

fn parts_with<'a>(pack: &'a Pack, slots: &[Slot]) -> impl Iterator<Item = &'a Part> {
    pack.parts.iter().filter(move |part| slots.iter().any(|slot| overlaps(part, slot)))
}

fn stored_size(part: &Part) -> StoredSize {
    if part.compressed { StoredSize::compressed(part.raw_size) } else { StoredSize::exactly(part.raw_size) }
}

/// Whether a part has bytes of a slot.
fn overlaps(part: &Part, slot: &Slot) -> bool {
    slot.start < part.start.saturating_add(part.raw_size) && slot.end > part.start
}

/// Result of the download of a pack.
#[derive(Debug, Default)]
pub struct PackResult {
    /// Bytes received over the network.
    pub transferred: u64,
    /// Objects that the pack did not yield. Nobody is downloading them for this call.
    pub left: Vec<ObjectIndex>,
    /// Whether a part could not be downloaded.
    pub lacks_parts: bool,
}

/// The objects that are taken from one pack, shared by the downloads of its parts.
struct Extraction<'a> {
    target: Target<'a>,
    bundle: &'a Arc<Bundle>,
    slots: Vec<Slot>,
    seams: Arc<Seams>,
    state: Mutex<State<'a>>,
    /// Called for each object when it is in the cache.
    on_fetched: &'a (dyn Fn(ObjectIndex) + Sync),
}

#[derive(Default)]
struct State<'a> {
    /// Objects that are not in the cache yet. A leader that is dropped lets others download its object.
    pending: HashMap<ObjectIndex, Leader<'a, FlightKey, FlightResult>>,
    /// Objects whose bytes in the pack are wrong.
    corrupt: HashSet<ObjectIndex>,
    transferred: u64,
}

impl Fetcher {
    /// Gets those of the `requested` objects of `bundle` that are in `pack` into the cache. Calls `on_fetched` for each of them.
    pub async fn fetch_pack(
        &self,
        target: Target<'_>,
        bundle: &Arc<Bundle>,
        pack: &Pack,
        requested: &[ObjectIndex],
        policy: FetchPolicy<'_>,
        on_fetched: &(dyn Fn(ObjectIndex) + Sync),
    ) -> PackResult {
        let pace = policy.limit.bytes_per_second();
        let mut left = Vec::new();
        let mut state = State::default();
        for &index in requested {
            let object = bundle.object(index);
            match self.flights.join_or_lead(&(target.destination_id, object.hash), pace) {
                Flight::Lead(leader) if fits(object) => {
                    state.pending.insert(index, leader);
                }
                // Another call downloads it, or it cannot be taken from a pack.
                _ => left.push(index),
            }
        }
        let slots = Slot::all(bundle, state.pending.keys().copied());
        let parts: Vec<&Part> = parts_with(pack, &slots).collect();
        let seams = Arc::new(Seams::new(self.seams.clone()));
        let extraction = Extraction { target, bundle, slots, seams, state: Mutex::new(state), on_fetched };
        // All parts start at once, in the order of the pack. Memory and connections limit them.
        let mut downloads: FuturesUnordered<_> =
            parts.into_iter().map(|part| self.fetch_part(&extraction, part, policy)).collect();
        let mut lacks_parts = false;
        while let Some(result) = downloads.next().await {
            if let Err(error) = result {
                lacks_parts = true;
                warn!(%error, "cannot download a part of a pack");
            }
        }
        drop(downloads);
        let State { pending, transferred, .. } = extraction.state.into_inner();
        // Their leaders are dropped here.
        left.extend(pending.into_keys());
        left.sort_unstable();
        PackResult { transferred, left, lacks_parts }
    }

    async fn fetch_part(
        &self,
        extraction: &Extraction<'_>,
        part: &Part,
        policy: FetchPolicy<'_>,
    ) -> Result<(), Failure> {
        let _permit = policy.limit.acquire().await?;
        let _memory = self.streams.acquire(PART_MEMORY).await?;
        let path = part.hash.url_path(part.kind);
        let routes = extraction.target.routes;
        let download = Download { routes, path, size: stored_size(part), range: None, policy };
        self.with_retries(&download, |attempt| self.extract_part(extraction, part, attempt)).await
    }

    async fn extract_part(
        &self,
        extraction: &Extraction<'_>,
        part: &Part,
        attempt: Attempt<'_>,
    ) -> Result<(), Failure> {
        // An earlier attempt may have yielded some of the objects.
        let slots = extraction.pending_slots(part);
        if slots.is_empty() {
            return Ok(());
        }
        let unpacker = PartUnpacker::new(part, slots, extraction.seams.clone());
        match self.stream_part(extraction, unpacker, attempt).await {
            // All requested objects were verified on their own.
            Err(failure) if failure.cause == Cause::Verification && extraction.pending_slots(part).is_empty() => {
                debug!(error = %failure, "a part of a pack is corrupt, but the objects in it are not");
                Ok(())
            }
            result => result,
        }
    }

    async fn stream_part(
        &self,
        extraction: &Extraction<'_>,
        mut unpacker: PartUnpacker,
        attempt: Attempt<'_>,
    ) -> Result<(), Failure> {
        let mut response = attempt.open().await?;
        let mut writes = Writes::new();
        let mut piece = response.body.piece(PIECE).await?;
        while !piece.is_empty() {
            extraction.state.lock().transferred += piece.len() as u64;
            // The next piece is received while this one is unpacked.
            let feed = Box::pin(self.cores.run(move |_| unpacker.feed(&piece)));
            let (fed, next) = match select(feed, Box::pin(response.body.piece(PIECE))).await {
                Either::Left((fed, next)) => (fed, Either::Left(next)),
                Either::Right((next, feed)) => (feed.await, Either::Right(ready(next))),
            };
            let cuts;
            (unpacker, cuts) = fed?;
            for batch in batches(cuts, extraction.bundle) {
                writes.push(self.write(extraction, batch));
                while writes.len() > self.cores.count().min(MAX_WRITES) {
                    if let Some(write) = writes.next().await {
                        extraction.record_write(write)?;
                    }
                }
            }
            piece = extraction.record_writes_until(next, &mut writes).await??;
        }
        while let Some(write) = writes.next().await {
            extraction.record_write(write)?;
        }
        unpacker.finish()
    }

    /// Starts to verify and write some objects.
    fn write(&self, extraction: &Extraction<'_>, batch: Vec<Cut>) -> JoinHandle<WriteResult> {
        let (cache, bundle) = (extraction.target.cache.clone(), extraction.bundle.clone());
        self.cores.start(move |scratch| {
            let put = |cut: Cut| {
                let object = bundle.object(cut.index);
                match verify::put(scratch, &cache, object, &cut.stored) {
                    Err(failure) if failure.cause == Cause::Write => Err(failure),
                    result => Ok((cut.index, result)),
                }
            };
            batch.into_iter().map(put).collect()
        })
    }
}

/// Each object of a batch with the result of its verification; a failure if the cache cannot be written.
type WriteResult = Result<Vec<(ObjectIndex, Result<(), Failure>)>, Failure>;
/// Batches that are being verified and written.
type Writes = FuturesUnordered<JoinHandle<WriteResult>>;

impl Extraction<'_> {
    /// Returns the slots that `part` has bytes of and whose objects are still pending, without those that are corrupt.
    fn pending_slots(&self, part: &Part) -> Vec<Slot> {
        let State { pending, corrupt, .. } = &*self.state.lock();
        let is_pending = |slot: &Slot| pending.contains_key(&slot.index) && !corrupt.contains(&slot.index);
        self.slots.iter().filter(|slot| overlaps(part, slot) && is_pending(slot)).copied().collect()
    }

    /// Waits for `work` and records the writes that end meanwhile: on a slow link, objects that were written do not wait for the next
    /// piece.
    async fn record_writes_until<T>(&self, work: impl Future<Output = T>, writes: &mut Writes) -> Result<T, Failure> {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Ok(done),
                Some(write) = writes.next(), if !writes.is_empty() => self.record_write(write)?,
            }
        }
    }

    /// Reports the objects of a batch that are in the cache now.
    fn record_write(&self, write: Result<WriteResult, JoinError>) -> Result<(), Failure> {
        let batch = write.map_err(|e| Failure::write(format!("the daemon is stopping or has a defect: {e}")))??;
        for (index, result) in batch {
            let object = self.bundle.object(index);
            if let Err(error) = result {
                debug!(object = %object.hash, %error, "object in a pack is corrupt");
                self.state.lock().corrupt.insert(index);
                continue;
            }
            let leader = self.state.lock().pending.remove(&index);
            if let Some(leader) = leader {
                leader.finish((Ok(()), (self.target.repository.to_owned(), object.kind)));
                (self.on_fetched)(index);
            }
        }
        Ok(())
    }
}

/// Whether an object can be taken from a pack.
fn fits(object: &BundleObject) -> bool {
    object.packed.is_some()
        && object.hash.algorithm == HashAlgorithm::Sha1
        && object.stored_size <= MAX_STORED
        && object.raw_size <= MAX_RAW
}

/// Unpacks and cuts the stream of one part. The hash of the part does not matter: those of the objects in it are verified.
struct PartUnpacker {
    inflater: Option<Inflater>,
    cutter: Cutter,
    part: ContentHash,
}

impl PartUnpacker {
    fn new(part: &Part, slots: Vec<Slot>, seams: Arc<Seams>) -> Self {
        let inflater = part.compressed.then(|| Inflater::new(part.hash, part.raw_size));
        let cutter = Cutter::new(part.start, part.start.saturating_add(part.raw_size), slots, seams);
        Self { inflater, cutter, part: part.hash }
    }

    fn feed(mut self, stored: &[u8]) -> Result<(Self, Vec<Cut>), Failure> {
        let mut cuts = Vec::new();
        match &mut self.inflater {
            None => self.cutter.feed(stored, &mut cuts),
            Some(inflater) => {
                let (cutter, part) = (&mut self.cutter, self.part);
                inflater.feed(stored, |raw| {
                    cutter.feed(raw, &mut cuts);
                    let bytes: usize = cuts.iter().map(|cut| cut.stored.len()).sum();
                    let grows = || Failure::wrong(format!("part {} of a pack grows too much when unpacked", part));
                    if bytes <= MAX_CUT { Ok(()) } else { Err(grows()) }
                })?;
            }
        }
        Ok((self, cuts))
    }

    fn finish(self) -> Result<(), Failure> {
        Ok(self.inflater.map_or(Ok(()), Inflater::finish)?)
    }
}

/// Divides objects into portions of work for one core.
fn batches(cuts: Vec<Cut>, bundle: &Bundle) -> Vec<Vec<Cut>> {
    let mut batches: Vec<Vec<Cut>> = Vec::new();
    let mut bytes = BATCH_BYTES;
    for cut in cuts {
        let size = bundle.object(cut.index).raw_size.max(cut.stored.len() as u64);
        if bytes + size > BATCH_BYTES || batches.last().is_none_or(|batch| batch.len() >= BATCH_OBJECTS) {
            batches.push(Vec::new());
            bytes = 0;
        }
        bytes += size;
        if let Some(batch) = batches.last_mut() {
            batch.push(cut);
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write;

    use bundles::object::ObjectKind;
    use tokio::sync::Semaphore;

    use super::*;

    #[test]
    fn a_part_that_grows_too_much_is_refused_before_it_is_in_memory() {
        let size = 64 << 20;
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&vec![0; size]).unwrap();
        let stored = encoder.finish().unwrap();
        assert!(stored.len() < PIECE);
        let (hash, kind) = (ContentHash::sha1_of(&stored), ObjectKind::File);
        let part = Part { hash, kind, start: 0, raw_size: size as u64, compressed: true };
        let slots: Vec<Slot> = (0..64)
            .map(|n| Slot { index: ObjectIndex::new(n), start: u64::from(n) << 20, end: u64::from(n + 1) << 20 })
            .collect();
        let seams = || Arc::new(Seams::new(Arc::new(Semaphore::new(0))));
        let Err(failure) = PartUnpacker::new(&part, slots.clone(), seams()).feed(&stored) else { panic!("it was cut") };
        assert!(failure.cause == Cause::Verification && failure.why.contains("grows too much"), "{failure}");
        // It may grow if little of it is requested.
        let (_, cuts) = PartUnpacker::new(&part, slots[3..5].to_vec(), seams()).feed(&stored).unwrap();
        assert_eq!(cuts.len(), 2);
    }
}
