//! What happened how often. Every fall-back and every lost hint is counted here.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Counts since the start.
        #[derive(Debug, Default)]
        pub struct Counters { $($(#[$doc])* pub $name: Counter,)* }

        impl fmt::Display for Counters {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut separator = "";
                $(write!(f, "{separator}{}={}", stringify!($name), self.$name.get())?; separator = " ";)*
                let _ = separator;
                Ok(())
            }
        }
    };
}

counters! {
    /// Layers taken from CVMFS.
    layers_from_cvmfs,
    /// Published layers that the image's bundle told the deletions of.
    layers_told,
    /// Published layers that were looked through for deletions.
    layers_walked,
    /// Layers that another image or namespace had brought before.
    layers_shared,
    /// Layers that no repository has.
    layers_absent,
    /// Layers unpacked because a repository could not be asked, for whatever reason.
    layers_fallback,
    /// Repository look-ups that failed: the mount gave an error.
    lookups_failed,
    /// Repository look-ups given up: no answer within the deadline.
    lookups_timed_out,
    /// Repository look-ups not even tried, because earlier ones still hang.
    lookups_skipped,
    /// Times that a container's layers were found to be in a mount that is dead or gone.
    mounts_dead,
    /// Of these: the mount came back in time.
    mounts_recovered,
    /// Containers not prepared, because a layer's mount is dead or the layer gone.
    containers_refused,
    /// Hints that the prefetch daemon took.
    hints_sent,
    /// Hints that it did not take, or not in time.
    hints_failed,
    /// Waits for a prefetch that ended when all that the start needs had come.
    waits_arrived,
    /// Waits that ended when the rest was expected to come before it is wanted.
    waits_ahead,
    /// Waits that ended because nothing came for too long.
    waits_not_worth_it,
    /// Waits that ended because there was nothing to wait for.
    waits_for_nothing,
    /// Waits that took as long as they may.
    waits_bounded,
    /// Waits that ended because the daemon could not be asked.
    waits_failed,
    /// Hints thrown away because too many were waiting.
    hints_dropped,
    /// Directories of removed snapshots that could not be deleted at once.
    removals_deferred,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn increment(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// The count so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
