//! A recording that runs, and its end.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bundles::trace::{End, ExcludedReason, LossCause, Losses, Tail};

use crate::follower::{Follower, content_id};
use crate::journal::Journal;
use crate::program::{Counters, page_shift};
use crate::reader::Followed;
use crate::{Error, clock, fanotify, pages};

/// A recording that runs. Dropped without [`Recording::stop`], it leaves nothing behind in the kernel, and a trace
/// without its end.
pub struct Recording {
    cgroup: PathBuf,
    /// None once it was stopped.
    running: Option<Running>,
}

pub(crate) enum Running {
    Bpf(Followed),
    Fanotify(fanotify::Reader),
}

impl Recording {
    pub(crate) fn new(cgroup: PathBuf, running: Running) -> Self {
        Self { cgroup, running: Some(running) }
    }

    /// Whether the container's first exec has been seen.
    pub fn has_begun(&self) -> bool {
        match &self.running {
            Some(Running::Bpf(followed)) => {
                let mut shared = followed.shared();
                shared.drain();
                shared.followers.get(&followed.target()).is_some_and(|follower| !follower.is_setting_up())
            }
            Some(Running::Fanotify(reader)) => reader.files() > 0,
            None => false,
        }
    }

    /// How many different files were used so far. Costs the container nothing; may be some 20 ms old.
    pub fn files_seen(&self) -> usize {
        match &self.running {
            Some(Running::Bpf(followed)) => {
                followed.shared().followers.get(&followed.target()).map_or(0, Follower::files)
            }
            Some(Running::Fanotify(reader)) => reader.files(),
            None => 0,
        }
    }

    /// Whether it has ended by itself because something went wrong; [`Recording::stop`] tells what.
    pub fn has_failed(&self) -> bool {
        matches!(&self.running, Some(Running::Fanotify(reader)) if reader.has_failed())
    }

    /// Marks that the container had started up by `ago` before now; what comes after is its main run.
    pub fn started_up(&self, ago: Duration) {
        let ago = u64::try_from(ago.as_nanos()).unwrap_or(u64::MAX);
        let time_ns = clock::now_ns().saturating_sub(ago);
        match &self.running {
            Some(Running::Bpf(followed)) => {
                if let Some(follower) = followed.shared().followers.get_mut(&followed.target()) {
                    follower.started_up(time_ns);
                }
            }
            Some(Running::Fanotify(reader)) => reader.started_up(time_ns),
            None => {}
        }
    }

    /// Ends the recording and the trace. Blocks for some milliseconds, more after much was read.
    pub fn stop(mut self, end: End) -> Result<(), Error> {
        match self.running.take() {
            Some(Running::Fanotify(reader)) => reader.finish(end, &self.cgroup),
            Some(Running::Bpf(followed)) => finish(&followed, end, &self.cgroup),
            None => Ok(()),
        }
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        if let Some(Running::Fanotify(reader)) = self.running.take() {
            reader.give_up();
        }
    }
}

fn finish(followed: &Followed, end: End, cgroup: &Path) -> Result<(), Error> {
    let (now_ns, target) = (clock::now_ns(), followed.target());
    let mut shared = followed.shared();
    // Before the target is gone: it may tell what the ring does not.
    shared.drain();
    let counters = shared.kernel.leave(target)?;
    shared.drain();
    let pieces = shared.kernel.take_pieces(target)?;
    let unread = shared.unread();
    let follower = shared.followers.remove(&target);
    drop(shared);
    let nothing = || Error::NothingRan(cgroup.into());
    let follower = follower.ok_or_else(nothing)?;
    let duration_us = follower.at_us(now_ns);
    // What the kernel tells of its misses may once not be had.
    let unread = unread.saturating_sub(follower.unread_before);
    let (mut journal, losses) = follower.close()?.ok_or_else(nothing)?;
    for (inode, ranges) in pages::ranges(pieces, page_shift()) {
        journal.ranges(content_id(inode), &ranges)?;
    }
    journal.excluded.add(ExcludedReason::OtherFileSystem, counters.elsewhere);
    let losses = counted(losses, &counters, &journal).with(LossCause::BufferFull, unread);
    let excluded = journal.excluded.clone();
    Ok(journal.finish(&Tail { end, duration_us, losses, excluded })?)
}

fn counted(losses: Losses, counters: &Counters, journal: &Journal) -> Losses {
    if counters.unlinked > 0 {
        tracing::debug!(files = counters.unlinked, "files without a name were left out");
    }
    losses
        .with(LossCause::BufferFull, counters.lost + journal.too_many)
        .with(LossCause::Unresolved, counters.unresolved)
        .with(LossCause::TooDeep, counters.too_deep)
        .with(LossCause::TableFull, counters.table_full)
}
