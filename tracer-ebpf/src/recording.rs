//! A running recording, and how it is finished.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bundles::trace::{End, ExcludedReason, LossCause, Losses, Tail};

use crate::container::{TracedContainer, content_id};
use crate::journal::Journal;
use crate::program::{Counters, page_shift};
use crate::reader::FollowGuard;
use crate::{Error, clock, fanotify, pages};

/// A running recording. Dropping it without [`Recording::stop`] removes everything from the kernel, and leaves an
/// unfinished trace.
pub struct Recording {
    cgroup: PathBuf,
    /// None after [`Recording::stop`].
    session: Option<Session>,
}

/// What a recording keeps alive, by backend.
pub(crate) enum Session {
    Bpf(FollowGuard),
    Fanotify(fanotify::Session),
}

impl Recording {
    pub(crate) fn new(cgroup: PathBuf, session: Session) -> Self {
        Self { cgroup, session: Some(session) }
    }

    /// Whether the container has executed its first program.
    pub fn has_started(&self) -> bool {
        match &self.session {
            Some(Session::Bpf(guard)) => {
                let mut shared = guard.shared();
                shared.drain();
                shared.containers.get(&guard.target()).is_some_and(|container| !container.is_in_set_up())
            }
            Some(Session::Fanotify(session)) => session.files() > 0,
            None => false,
        }
    }

    /// The number of different files used so far, up to 20 ms ago. Does not slow down the container.
    pub fn files_seen(&self) -> usize {
        match &self.session {
            Some(Session::Bpf(guard)) => {
                guard.shared().containers.get(&guard.target()).map_or(0, TracedContainer::files)
            }
            Some(Session::Fanotify(session)) => session.files(),
            None => 0,
        }
    }

    /// Whether the recording has ended because of an error. [`Recording::stop`] returns it, or finishes a trace that is not complete.
    pub fn has_failed(&self) -> bool {
        match &self.session {
            Some(Session::Bpf(guard)) => guard.has_failed(),
            Some(Session::Fanotify(session)) => session.has_failed(),
            None => false,
        }
    }

    /// Marks the end of the start-up phase, `ago` before now. Later uses belong to the main phase.
    pub fn mark_started_up(&self, ago: Duration) {
        let ago = u64::try_from(ago.as_nanos()).unwrap_or(u64::MAX);
        let time_ns = clock::now_ns().saturating_sub(ago);
        match &self.session {
            Some(Session::Bpf(guard)) => {
                if let Some(container) = guard.shared().containers.get_mut(&guard.target()) {
                    container.mark_started_up(time_ns);
                }
            }
            Some(Session::Fanotify(session)) => session.mark_started_up(time_ns),
            None => {}
        }
    }

    /// Ends the recording and finishes the trace. Blocks for some milliseconds, longer the more pages were read.
    pub fn stop(mut self, end: End) -> Result<(), Error> {
        match self.session.take() {
            Some(Session::Fanotify(session)) => session.finish(end, &self.cgroup),
            Some(Session::Bpf(guard)) => finish(&guard, end, &self.cgroup),
            None => Ok(()),
        }
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        if let Some(Session::Fanotify(session)) = self.session.take() {
            session.abandon();
        }
    }
}

fn finish(guard: &FollowGuard, end: End, cgroup: &Path) -> Result<(), Error> {
    let now_ns = clock::now_ns();
    let target = guard.target();
    let mut shared = guard.shared();
    // Before the target is removed: the map may have a first exec that the ring lost.
    shared.drain();
    let counters = shared.kernel.unfollow(target)?;
    shared.drain();
    let bitmaps = shared.kernel.take_page_bitmaps(target)?;
    let unattributed = shared.unattributed_losses();
    let container = shared.containers.remove(&target);
    drop(shared);
    let nothing = || Error::NothingRecorded(cgroup.into());
    let container = container.ok_or_else(nothing)?;
    let duration_us = container.at_us(now_ns);
    // The kernel's count of recursion misses can be unreadable, so the difference might be negative.
    let unattributed = unattributed.saturating_sub(container.losses_before);
    let (mut journal, losses) = container.close()?.ok_or_else(nothing)?;
    for (inode, ranges) in pages::ranges(bitmaps, page_shift()) {
        journal.ranges(content_id(inode), &ranges)?;
    }
    journal.excluded.add(ExcludedReason::OtherFileSystem, counters.other_file_systems);
    let losses = total_losses(losses, &counters, &journal).with(LossCause::BufferFull, unattributed);
    let excluded = journal.excluded.clone();
    Ok(journal.finish(&Tail { end, duration_us, losses, excluded })?)
}

fn total_losses(losses: Losses, counters: &Counters, journal: &Journal) -> Losses {
    if counters.unlinked > 0 {
        tracing::debug!(files = counters.unlinked, "unlinked files excluded");
    }
    losses
        .with(LossCause::BufferFull, counters.lost + journal.files_over_limit)
        .with(LossCause::Unresolved, counters.unresolved)
        .with(LossCause::TooDeep, counters.too_deep)
        .with(LossCause::TableFull, counters.table_full)
}
