//! Brings objects from servers into sinks.
//!
//! [`Fetcher::fetch`] is called for many objects at a time, in the order in which they are needed, and
//! [`Fetcher::fetch_pack`] for what is in a pack. What they may use of the machine is bounded here for all requests together:
//!
//! - *the caller's own limit*, if there is one: a turn among what one request asks for, see [`terms`];
//! - *memory of streams*: a permit for the buffers of a large object or of a part of a pack, held until all is written;
//! - *connections*: a place in the [`window`] of the host while a response is awaited and read;
//! - *requests*: a turn among those to one proxy, if a limit is set, see [`pace`];
//! - *memory of small objects*: a permit for the stored bytes of one, from the head of the answer until it is written. While
//!   the answer is awaited there is nothing to hold, and on a long line that is most of the time. What comes before the
//!   permit stays with the kernel, which slows the sender down. What one is unpacked to is on a core only, see [`cores`];
//! - *bandwidth*: what has come has its time before more is read, see [`bandwidth`];
//! - *cores*: a permit while bytes are hashed, unpacked and written, off the asynchronous threads, see [`cores`].
//!
//! Permits are always taken in this order, and a joiner of somebody else's flight holds none, so nothing can lock up: hence
//! two kinds of memory, for ranges of a large object are asked for by who holds some.
//!
//! [`route`] knows by which proxy and from which server, [`failure`] tells what failed, [`flight`] keeps an object from being
//! fetched twice at a time, [`download`] speaks HTTP, [`verify`] checks and unpacks, [`pack`] cuts packs into objects.

pub mod failover;
pub mod failure;
pub mod http;
mod large;
pub mod limits;
pub mod pack;
pub mod single_flight;
pub mod verify;

use std::sync::Arc;

use bundles::bundle::BundleObject;
use bundles::object::{ContentHash, HashAlgorithm, ObjectError, ObjectKind};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::cache::Sink;
use failover::{Retry, Routes, Turn, Way};
use failure::Failure;
use http::download::{self, Ask, Body, Limits};
use limits::bandwidth::Bandwidth;
use limits::cpu::CpuPool;
use limits::per_request::Terms;
use single_flight::{Seat, SingleFlight};

/// Bytes of streams in memory at a time: a large object in ranges and another one, five that are streams, or two parts of
/// packs and a large object.
const STREAMS: u64 = 10 << 20;
/// Bytes of small objects in memory at a time, but for what the cores are at, and for what comes with the heads of answers.
const SMALL_OBJECTS: u64 = 2 << 20;
/// Objects with more stored and raw bytes than this are streamed.
const SMALL: u64 = 4 << 20;
/// The unit of memory permits.
const KIB: u64 = 1 << 10;

/// How one object's fetch ended.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// Somebody put it there in the meantime.
    AlreadyThere,
    /// Brought by this call.
    Fetched {
        /// Bytes over the network.
        stored: u64,
    },
    /// Brought by another call at the same time.
    Joined,
    /// Not to be had.
    Failed(Failure),
}

/// Where an object is fetched from, and the cache that it is fetched into.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// Fully qualified name of the repository.
    pub repository: &'a str,
    /// Ways to the repository's objects.
    pub routes: &'a Routes,
    /// Cache of the repository's client.
    pub sink: &'a Arc<dyn Sink>,
    /// Number of the cache. Repositories that share a cache share the number.
    pub sink_number: usize,
}

/// One sink's object. The same in all repositories that share the sink.
type Key = (usize, ContentHash);
/// How a flight ended, and from where it was tried: another repository may still have the object.
type Landing = (Result<(), Failure>, Origin);
type Origin = (String, ObjectKind);

/// Shared by all requests of the daemon.
#[derive(Debug)]
pub struct Fetcher {
    flights: SingleFlight<Key, Landing>,
    streams: Memory,
    small_objects: Memory,
    bandwidth: Bandwidth,
    cores: CpuPool,
}

impl Fetcher {
    /// A fetcher that takes at most so many bytes a second.
    pub fn new(bytes_per_second: Option<u64>) -> Self {
        Self {
            flights: SingleFlight::default(),
            streams: Memory::new(STREAMS),
            small_objects: Memory::new(SMALL_OBJECTS),
            bandwidth: Bandwidth::new(bytes_per_second),
            cores: CpuPool::all(),
        }
    }

    /// Bytes a second that come, if that is known.
    pub fn bytes_per_second(&self) -> Option<f64> {
        self.bandwidth.bytes_per_second()
    }

    /// Brings `object` into the repository's sink, unless it is there or on its way.
    pub async fn fetch(&self, target: Target<'_>, object: &BundleObject, terms: Terms<'_>) -> Outcome {
        if object.hash.algorithm != HashAlgorithm::Sha1 {
            return Outcome::Failed(ObjectError::Unverifiable(object.hash).into());
        }
        let key = (target.sink_number, object.hash);
        let origin = (target.repository.to_owned(), object.kind);
        loop {
            let turn = match terms.own.turn().await {
                Ok(turn) => turn,
                Err(failure) => return Outcome::Failed(failure),
            };
            match self.flights.board(&key) {
                Seat::Leader(leader) => {
                    // Another flight may have landed since the plan was made. One stat of a local file: no need to
                    // leave the thread.
                    if target.sink.contains(&object.hash, object.raw_size) {
                        leader.land((Ok(()), origin));
                        return Outcome::AlreadyThere;
                    }
                    let result = self.bring(target, object, terms).await;
                    leader.land((result.as_ref().map(|_| ()).map_err(Failure::clone), origin));
                    return match result {
                        Ok(stored) => Outcome::Fetched { stored },
                        Err(failure) => Outcome::Failed(failure),
                    };
                }
                Seat::Joiner(joiner) => {
                    drop(turn);
                    match joiner.wait().await {
                        Some((Ok(()), _)) => return Outcome::Joined,
                        Some((Err(failure), tried)) if tried == origin => return Outcome::Failed(failure),
                        // Given up, or tried elsewhere: our turn.
                        _ => {}
                    }
                }
            }
        }
    }

    async fn bring(&self, target: Target<'_>, object: &BundleObject, terms: Terms<'_>) -> Result<u64, Failure> {
        let limits = Limits::of(object);
        if object.raw_size.saturating_add(limits.most) > SMALL {
            return self.bring_large(target, object, terms).await;
        }
        let path = object.hash.url_path(object.kind);
        let mut tries = Retry::new(target.routes);
        while let Some(turn) = tries.next().await {
            match self.bring_small(target, object, &path, turn, terms).await {
                Err(failure) => tries.failed(failure)?,
                done => return done,
            }
        }
        Err(tries.failure())
    }

    async fn bring_small(
        &self,
        target: Target<'_>,
        object: &BundleObject,
        path: &str,
        turn: Turn,
        terms: Terms<'_>,
    ) -> Result<u64, Failure> {
        let url = target.routes.url(turn.way, path);
        let ask =
            Ask { url: &url, limits: Limits::of(object), range: None, fresh: turn.fresh, own: terms.own.bucket() };
        let place = target.routes.enter(turn.way, terms.rank).await;
        let body = self.open(target.routes, turn.way, &ask).await?;
        let _memory = self.small_objects.take(ask.limits.most).await?;
        let stored = body.whole().await?;
        drop(place);
        let (sink, object, size) = (target.sink.clone(), object.clone(), stored.len() as u64);
        self.cores.run(move |scratch| verify::put(scratch, &*sink, &object, &stored)).await?;
        Ok(size)
    }

    /// Asks by one way, and tells its window how long that took.
    async fn open<'a>(&'a self, routes: &Routes, way: Way, ask: &Ask<'a>) -> Result<Body<'a>, Failure> {
        let (window, policy) = (routes.window(way), routes.upstream().policy);
        let patience = policy.timeout.max(policy.timeout_direct);
        match download::open(routes.http(way), ask, patience, &self.bandwidth).await {
            Ok((body, took)) => {
                window.answered(took);
                Ok(body)
            }
            Err(failure) => {
                if failure.transient {
                    window.overloaded();
                }
                Err(failure)
            }
        }
    }
}

/// Bytes that may be in memory at a time.
#[derive(Debug)]
struct Memory {
    free: Semaphore,
    all: u64,
}

impl Memory {
    fn new(all: u64) -> Self {
        Self { free: Semaphore::new((all / KIB) as usize), all }
    }

    /// Waits for so many, or for all if that is less.
    async fn take(&self, bytes: u64) -> Result<SemaphorePermit<'_>, Failure> {
        let permits = bytes.min(self.all).div_ceil(KIB).max(1);
        Ok(self.free.acquire_many(permits as u32).await?)
    }

    /// So many, if they are free and nobody waits.
    fn spare(&self, bytes: u64) -> Option<SemaphorePermit<'_>> {
        self.free.try_acquire_many(bytes.div_ceil(KIB) as u32).ok()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn memory_is_waited_for_and_who_wants_more_than_all_waits_for_all() {
        let memory = Memory::new(4 * KIB);
        let half = memory.take(2 * KIB).await.unwrap();
        assert!(memory.spare(2 * KIB + 1).is_none() && memory.spare(2 * KIB).is_some());
        let mut waits = Box::pin(memory.take(3 * KIB));
        assert!(futures::poll!(&mut waits).is_pending() && memory.spare(1).is_none(), "somebody waits");
        drop(waits);
        for (bytes, fits) in [(0, true), (KIB + 1, true), (2 * KIB, true), (2 * KIB + 1, false), (u64::MAX, false)] {
            assert_eq!(futures::poll!(Box::pin(memory.take(bytes))).is_ready(), fits, "{bytes}");
        }
        drop(half);
        assert!(futures::poll!(Box::pin(memory.take(u64::MAX))).is_ready());
    }
}
