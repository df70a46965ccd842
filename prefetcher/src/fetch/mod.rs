//! Downloads objects from servers, verifies them and writes them to a cache.
//!
//! [`Fetcher::fetch`] is called for many objects at a time, in the order of need, and [`Fetcher::fetch_pack`] for the objects of
//! a pack. Both are limited here for all requests together:
//!
//! 1. *request limit* ([`limits::per_request`]): with a limit of its own, a request downloads few objects at a time;
//! 2. *memory of streams*: the buffers of a large object or of a part of a pack, held until all is written;
//! 3. *connections* ([`limits::concurrency`]): a permit of the proxy or server, held while a response is awaited and read;
//! 4. *requests per second* ([`limits::per_proxy`]), if the configuration limits them;
//! 5. *memory of small objects*: the stored bytes of one object, from the head of the response until the object is written. It is
//!    not held while the response is awaited, which is most of the time on a long link. Bytes that arrive before the permit stay
//!    with the kernel, which slows down the sender. Unpacked bytes are in memory only while a core works on them;
//! 6. *bandwidth* ([`limits::bandwidth`]): after each read, the next one waits until the bytes had their time;
//! 7. *cores* ([`limits::cpu`]): a permit while bytes are hashed, unpacked and written, off the asynchronous threads.
//!
//! Permits are always acquired in this order, and a download that joins another one holds none, so there are no deadlocks. This is
//! why there are two kinds of memory: the ranges of a large object are requested while the object holds some.
//!
//! [`failover`] chooses proxy and server, [`failure`] describes what failed, [`single_flight`] prevents that an object is
//! downloaded twice at a time, [`http`] sends requests, [`verify`] checks and unpacks, [`pack`] cuts packs into objects.

mod attempt;
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
use tokio::sync::Semaphore;

use crate::cache::{DestinationId, PosixCache};
use attempt::{Attempt, Download};
use failover::Routes;
use failure::Failure;
use http::response::StoredSize;
use limits::bandwidth::Bandwidth;
use limits::cpu::CpuPool;
use limits::memory::MemoryLimit;
use limits::per_request::FetchPolicy;
use single_flight::{Flight, SingleFlight};

/// Bytes of streams in memory at a time: a large object in ranges and another one, five that are streams, or two parts of
/// packs and a large object.
const STREAMS: u64 = 10 << 20;
/// Bytes of small objects in memory at a time, without those that a core works on and those that arrive with the heads of
/// responses.
const SMALL_OBJECTS: u64 = 2 << 20;
/// KiB of objects at the seams of packs in memory at a time, while their other pieces are downloaded.
const SEAMS_KIB: usize = 4 << 10;
/// Objects with more stored and raw bytes than this are streamed.
const SMALL: u64 = 4 << 20;

/// How an object got into the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetched {
    /// It was there: another download has put it there since the lookup.
    Cached,
    /// This call downloaded it.
    Downloaded {
        /// Bytes received over the network.
        transferred: u64,
    },
    /// Another call was downloading it.
    Joined,
}

/// Where an object is downloaded from, and the cache that it is written to.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// Fully qualified name of the repository.
    pub repository: &'a str,
    /// Routes to the repository's objects.
    pub routes: &'a Routes,
    /// Cache of the repository's client.
    pub cache: &'a PosixCache,
    /// Tells caches apart.
    pub destination_id: DestinationId,
}

/// An object of one cache. The same for all repositories that share the cache.
type FlightKey = (DestinationId, ContentHash);
/// How a download ended, and where it was tried: another repository may still have the object.
type FlightResult = (Result<(), Failure>, Origin);
type Origin = (String, ObjectKind);

/// Downloads for all requests of the daemon.
#[derive(Debug)]
pub struct Fetcher {
    flights: SingleFlight<FlightKey, FlightResult>,
    streams: MemoryLimit,
    small_objects: MemoryLimit,
    bandwidth: Bandwidth,
    cores: CpuPool,
    /// Memory for pieces of objects at the seams of packs, in KiB.
    seams: Arc<Semaphore>,
}

impl Fetcher {
    /// A fetcher that downloads at most `bytes_per_second`.
    pub fn new(bytes_per_second: Option<u64>) -> Self {
        Self {
            flights: SingleFlight::default(),
            streams: MemoryLimit::new(STREAMS),
            small_objects: MemoryLimit::new(SMALL_OBJECTS),
            bandwidth: Bandwidth::new(bytes_per_second),
            cores: CpuPool::all(),
            seams: Arc::new(Semaphore::new(SEAMS_KIB)),
        }
    }

    /// The measured rate of downloads, if it is known.
    pub fn bytes_per_second(&self) -> Option<f64> {
        self.bandwidth.bytes_per_second()
    }

    /// Gets `object` into the cache of the target: downloads it, or joins a download of it.
    pub async fn fetch(
        &self,
        target: Target<'_>,
        object: &BundleObject,
        policy: FetchPolicy<'_>,
    ) -> Result<Fetched, Failure> {
        if object.hash.algorithm != HashAlgorithm::Sha1 {
            return Err(ObjectError::Unverifiable(object.hash).into());
        }
        let key = (target.destination_id, object.hash);
        let origin = (target.repository.to_owned(), object.kind);
        loop {
            let permit = policy.limit.acquire().await?;
            match self.flights.join_or_lead(&key, policy.limit.bytes_per_second()) {
                Flight::Lead(leader) => {
                    // Another download may have ended since the lookup, so the cache is checked again now that nobody
                    // else can start one. An alien cache can be on a file system that responds late.
                    let (cache, hash, raw_size) = (target.cache.clone(), object.hash, object.raw_size);
                    let contains = tokio::task::spawn_blocking(move || cache.contains(&hash, raw_size));
                    if contains.await.unwrap_or(false) {
                        leader.finish((Ok(()), origin));
                        return Ok(Fetched::Cached);
                    }
                    let result = self.download(target, object, policy).await;
                    leader.finish((result.as_ref().map(|_| ()).map_err(Failure::clone), origin));
                    return result.map(|transferred| Fetched::Downloaded { transferred });
                }
                Flight::Join(joiner) => {
                    drop(permit);
                    match joiner.wait().await {
                        Some((Ok(()), _)) => return Ok(Fetched::Joined),
                        Some((Err(failure), tried)) if tried == origin => return Err(failure),
                        // The leader gave up, or has tried another repository.
                        _ => {}
                    }
                }
            }
        }
    }

    async fn download(
        &self,
        target: Target<'_>,
        object: &BundleObject,
        policy: FetchPolicy<'_>,
    ) -> Result<u64, Failure> {
        let size = StoredSize::of_object(object);
        if object.raw_size.saturating_add(size.max) > SMALL {
            return self.download_large(target, object, policy).await;
        }
        let path = object.hash.url_path(object.kind);
        let download = Download { routes: target.routes, path, size, range: None, policy };
        self.with_retries(&download, |attempt| self.download_small(target, object, attempt)).await
    }

    async fn download_small(
        &self,
        target: Target<'_>,
        object: &BundleObject,
        attempt: Attempt<'_>,
    ) -> Result<u64, Failure> {
        let response = attempt.open().await?;
        let _memory = self.small_objects.acquire(StoredSize::of_object(object).max).await?;
        let stored = response.body.whole().await?;
        drop(response.connection);
        let (cache, object, transferred) = (target.cache.clone(), object.clone(), stored.len() as u64);
        self.cores.run(move |scratch| verify::put(scratch, &cache, &object, &stored)).await?;
        Ok(transferred)
    }
}
