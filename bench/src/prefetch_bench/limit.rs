//! The lower bound for every method: the transfer over the link, and the work on the node's cores.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bundles::bundle::{Bundle, BundleObject};
use bundles::object::Scratch;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use testbed::site::{FQRN, Site};

use crate::condition::Condition;

/// Round trips granted in the lower bound.
const ROUND_TRIPS: u32 = 3;

/// All objects in memory, as stored on the server.
#[derive(Debug)]
pub(super) struct StoredObjects<'a>(Vec<(&'a BundleObject, Vec<u8>)>);

impl<'a> StoredObjects<'a> {
    pub(super) fn read(site: &Site, bundle: &'a Bundle) -> Result<Self> {
        let read = |object: &'a BundleObject| {
            let path = site.repository.object_path(&object.hash, object.kind);
            let stored = std::fs::read(&path).with_context(|| format!("no object {} of {FQRN}", path.display()))?;
            Ok((object, stored))
        };
        Ok(Self(bundle.objects.iter().map(read).collect::<Result<_>>()?))
    }

    /// How long all cores take to verify and decompress them and, with a directory, to write them there.
    pub(super) fn unpacked_on_all_cores(&self, into: Option<&Path>) -> Result<Duration> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let next = AtomicUsize::new(0);
        let started = Instant::now();
        std::thread::scope(|scope| {
            let core = || {
                let mut scratch = Scratch::default();
                while let Some((object, stored)) = self.0.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let raw = scratch.unpack(&object.hash, stored, object.raw_size)?;
                    if let Some(directory) = into {
                        std::fs::write(directory.join(object.hash.to_string()), raw)?;
                    }
                }
                anyhow::Ok(())
            };
            let cores: Vec<_> = (0..cores).map(|_| scope.spawn(core)).collect();
            cores.into_iter().try_for_each(|core| core.join().map_err(|_| anyhow::anyhow!("a worker panicked"))?)
        })?;
        Ok(started.elapsed())
    }

    /// Raw bytes that one core verifies and decompresses per second of processor time.
    pub(super) fn bytes_per_second_and_core(&self) -> Result<f64> {
        let mut scratch = Scratch::default();
        let mut raw = 0;
        let before = thread_time()?;
        for (object, stored) in &self.0 {
            raw += scratch.unpack(&object.hash, stored, object.raw_size)?.len();
        }
        Ok(raw as f64 / (thread_time()? - before).as_secs_f64())
    }

    /// The shortest possible time of a prefetch under this condition, if the cores need `cores`.
    pub(super) fn limit(&self, condition: &Condition, cores: Duration) -> Duration {
        let bytes: usize = self.0.iter().map(|(_, stored)| stored.len()).sum();
        let transfer = condition.bytes_per_second.map_or(0.0, |rate| bytes as f64 / rate as f64);
        Duration::from_secs_f64(transfer).max(cores) + ROUND_TRIPS * condition.round_trip()
    }
}

/// Processor time of this thread.
fn thread_time() -> Result<Duration> {
    let time = getrusage(UsageWho::RUSAGE_THREAD)?.user_time();
    Ok(Duration::from_micros(u64::try_from(time.num_microseconds())?))
}
