//! Brings objects from servers into sinks.
//!
//! [`Fetcher::fetch`] is called for many objects at a time, in the order in which they are needed; what it may use of
//! the machine is bounded here for all requests together, in the order of asking:
//!
//! - *memory*: a permit for the stored and raw bytes of a small object, or the buffers of a large one, held until it is
//!   written;
//! - *connections*: a permit while a response is awaited and read;
//! - *cores*: a permit while bytes are hashed, unpacked and written, off the asynchronous threads.
//!
//! Permits are always taken in this order, and a joiner of somebody else's flight holds none, so nothing can lock up.
//!
//! [`failure`] tells what failed, [`flight`] keeps an object from being fetched twice at a time, [`download`] speaks
//! HTTP, [`verify`] checks and unpacks.

pub mod download;
pub mod failure;
pub mod flight;
pub mod verify;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bundles::bundle::BundleObject;
use bundles::object::{BadObject, ContentHash, HashAlgorithm, ObjectKind};
use tokio::sync::{AcquireError, Semaphore, SemaphorePermit};
use tracing::debug;

use crate::repository::Repository;
use download::{Body, Limits};
use failure::{Cause, Failure};
use flight::{Flights, Seat};
use verify::Streamed;

/// All bytes of objects in memory at a time.
const MEMORY: u64 = 64 << 20;
/// Objects with more stored and raw bytes than this are streamed.
const SMALL: u64 = 8 << 20;
/// What a streamed object is counted as.
const STREAMED_COST: u64 = 2 << 20;
/// How many stored bytes of a streamed object are handed over at a time.
const PIECE: usize = 1 << 20;
/// The unit of memory permits.
const KIB: u64 = 1 << 10;
/// The first pause before an object is tried again; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

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

/// One sink's object. The same in all repositories that share the sink.
type Key = (usize, ContentHash);
/// How a flight ended, and from where it was tried: another repository may still have the object.
type Landing = (Result<(), Failure>, Origin);
type Origin = (String, ObjectKind);

/// Shared by all requests of the daemon.
#[derive(Debug)]
pub struct Fetcher {
    flights: Flights<Key, Landing>,
    memory: Semaphore,
    connections: Semaphore,
    cores: Arc<Semaphore>,
    retries: u32,
}

impl Fetcher {
    /// A fetcher with so many connections at most, that tries the servers again so often.
    pub fn new(connections: usize, retries: u32) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            flights: Flights::default(),
            memory: Semaphore::new((MEMORY / KIB) as usize),
            connections: Semaphore::new(connections),
            cores: Arc::new(Semaphore::new(cores)),
            retries,
        }
    }

    /// Brings `object` into the repository's sink, unless it is there or on its way.
    pub async fn fetch(&self, repository: &Repository, object: &BundleObject) -> Outcome {
        if object.hash.algorithm != HashAlgorithm::Sha1 {
            return Outcome::Failed(BadObject::Unverifiable(object.hash).into());
        }
        let key = (repository.sink_number, object.hash);
        let origin = (repository.name.clone(), object.kind);
        loop {
            match self.flights.board(&key) {
                Seat::Leader(leader) => {
                    // Another flight may have landed since the plan was made. One stat of a local file: no need to
                    // leave the thread.
                    if repository.sink.contains(&object.hash, object.raw_size) {
                        leader.land((Ok(()), origin));
                        return Outcome::AlreadyThere;
                    }
                    let result = self.bring(repository, object).await;
                    leader.land((result.as_ref().map(|_| ()).map_err(Failure::clone), origin));
                    return match result {
                        Ok(stored) => Outcome::Fetched { stored },
                        Err(failure) => Outcome::Failed(failure),
                    };
                }
                Seat::Joiner(joiner) => match joiner.wait().await {
                    Some((Ok(()), _)) => return Outcome::Joined,
                    Some((Err(failure), tried)) if tried == origin => return Outcome::Failed(failure),
                    // Given up, or tried elsewhere: our turn.
                    _ => {}
                },
            }
        }
    }

    /// Tries the servers in turn, and all of them again after a pause; a server that refused or sent wrong bytes is not
    /// asked again. Wrong bytes are the failure that is told, if there were any: they are what must not go unnoticed.
    async fn bring(&self, repository: &Repository, object: &BundleObject) -> Result<u64, Failure> {
        let limits = Limits::of(object);
        let in_memory = object.raw_size.saturating_add(limits.most);
        let small = in_memory <= SMALL;
        let cost = if small { in_memory } else { STREAMED_COST };
        let _memory = self.memory.acquire_many(cost.div_ceil(KIB) as u32).await.map_err(closed)?;
        let path = object.hash.url_path(object.kind);
        let mut out = HashSet::new();
        let mut told: Option<Failure> = None;
        for round in 0..=self.retries {
            if round > 0 {
                tokio::time::sleep(pause(round)).await;
            }
            for at in repository.server_order() {
                if out.contains(&at) {
                    continue;
                }
                let url = format!("{}/{path}", repository.upstream.servers[at]);
                let attempt = self.attempt(repository, object, &url, limits, small);
                let failure = match attempt.await {
                    Ok(stored) => return Ok(stored),
                    Err(failure) => failure,
                };
                debug!(%url, round, cause = ?failure.cause, error = %failure, "attempt failed");
                match failure.cause {
                    Cause::Write => return Err(failure),
                    Cause::Transfer if failure.transient => repository.avoid(at),
                    _ => {}
                }
                if !failure.transient {
                    out.insert(at);
                }
                if told.as_ref().is_none_or(|t| t.cause != Cause::Verification) {
                    told = Some(failure);
                }
            }
            if out.len() == repository.upstream.servers.len() {
                break;
            }
        }
        Err(told.unwrap_or_else(|| Failure::refused(format!("repository {} has no servers", repository.name))))
    }

    /// One server, once.
    async fn attempt(
        &self,
        repository: &Repository,
        object: &BundleObject,
        url: &str,
        limits: Limits,
        small: bool,
    ) -> Result<u64, Failure> {
        let late = |_| Failure::transient(format!("{url}: not done after {} s", limits.deadline().as_secs()));
        let connection = self.connections.acquire().await.map_err(closed)?;
        if !small {
            return tokio::time::timeout(limits.deadline(), self.stream(repository, object, url, limits, connection))
                .await
                .map_err(late)?;
        }
        let download = async { download::open(&repository.http, url, limits).await?.whole().await };
        let stored = tokio::time::timeout(limits.deadline(), download).await.map_err(late)??;
        drop(connection);
        let (sink, object, size) = (repository.sink.clone(), object.clone(), stored.len() as u64);
        self.compute(move || verify::put(&*sink, &object, &stored)).await?;
        Ok(size)
    }

    /// A large object: read a piece, work it off, read the next.
    async fn stream(
        &self,
        repository: &Repository,
        object: &BundleObject,
        url: &str,
        limits: Limits,
        _connection: SemaphorePermit<'_>,
    ) -> Result<u64, Failure> {
        let mut body = download::open(&repository.http, url, limits).await?;
        let (sink, object) = (repository.sink.clone(), object.clone());
        let mut streamed = self.compute(move || Streamed::begin(&*sink, &object)).await?;
        loop {
            let piece = read_piece(&mut body).await?;
            if piece.is_empty() {
                break;
            }
            streamed = self.compute(move || streamed.feed(&piece).map(|()| streamed)).await?;
        }
        self.compute(move || streamed.finish()).await?;
        Ok(body.received())
    }

    /// Runs `work` off the asynchronous threads, on as many cores as there are.
    async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        // Owned by the work, which goes on when the caller is dropped.
        let core = self.cores.clone().acquire_owned().await.map_err(closed)?;
        let span = tracing::Span::current();
        let task = tokio::task::spawn_blocking(move || {
            let _core = core;
            span.in_scope(work)
        });
        task.await.map_err(|e| Failure::write(format!("the daemon is stopping or has a defect: {e}")))?
    }
}

/// Up to [`PIECE`] bytes and the rest of what came with them; empty at the end.
async fn read_piece(body: &mut Body) -> Result<Vec<u8>, Failure> {
    let mut piece = Vec::with_capacity(PIECE + 64 * KIB as usize);
    while piece.len() < PIECE {
        match body.next().await? {
            Some(bytes) => piece.extend_from_slice(bytes.as_ref()),
            None => break,
        }
    }
    Ok(piece)
}

/// How long to wait before `round`: doubled each time, and up to half as long again, so that nodes do not march in step.
fn pause(round: u32) -> Duration {
    let base = FIRST_PAUSE * 2u32.saturating_pow(round.saturating_sub(1)).min(64);
    base + base.mul_f64(rand::random_range(0.0..0.5))
}

fn closed(_: AcquireError) -> Failure {
    Failure::transient("the daemon is stopping")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_but_not_for_ever() {
        for round in 1..30 {
            let shortest = FIRST_PAUSE * 2u32.pow((round - 1).min(6));
            assert!(pause(round) >= shortest && pause(round) <= shortest * 2);
        }
    }
}
