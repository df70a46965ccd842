//! The thread that empties the ring buffer.
//!
//! The kernel part wakes it only when an eighth of the ring is unread; otherwise it comes by itself every
//! [`PERIOD_MS`]. It ends when the recorder's end of a pipe is closed, after a last look at the ring.

use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use aya::maps::{MapData, RingBuf};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};

use crate::Error;
use crate::event;
use crate::timeline::Timeline;

const PERIOD_MS: u8 = 20;

/// What the thread hands over.
pub(crate) struct Read {
    pub(crate) timeline: Timeline,
    /// Records that could not be understood.
    pub(crate) unresolved: u64,
}

pub(crate) struct Reader {
    thread: JoinHandle<io::Result<Read>>,
    stop: PipeWriter,
    files: Arc<AtomicUsize>,
}

impl Reader {
    pub(crate) fn start(events: RingBuf<MapData>, max_files: usize) -> Result<Self, Error> {
        let system = |what| move |source| Error::System { what, source };
        let (stopped, stop) = io::pipe().map_err(system("make a pipe"))?;
        let files = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&files);
        let thread = thread::Builder::new()
            .name("tracer".into())
            .spawn(move || run(events, &stopped, Timeline::new(max_files), &seen))
            .map_err(system("start its thread"))?;
        Ok(Self { thread, stop, files })
    }

    /// How many files there were when the thread last looked, at most [`PERIOD_MS`] ago.
    pub(crate) fn files(&self) -> usize {
        self.files.load(Ordering::Relaxed)
    }

    /// Call this when nothing is written to the ring any more.
    pub(crate) fn finish(self) -> Result<Read, Error> {
        drop(self.stop);
        let read = self.thread.join().unwrap_or_else(|_| Err(io::Error::other("its thread panicked")));
        read.map_err(|source| Error::System { what: "read the ring buffer", source })
    }
}

fn run(
    mut events: RingBuf<MapData>,
    stopped: &PipeReader,
    timeline: Timeline,
    files: &AtomicUsize,
) -> io::Result<Read> {
    let mut read = Read { timeline, unresolved: 0 };
    loop {
        let stop = wait(&events, stopped)?;
        while let Some(record) = events.next() {
            match event::parse(&record) {
                Some(event) => read.timeline.add(event),
                None => read.unresolved += 1,
            }
        }
        files.store(read.timeline.files(), Ordering::Relaxed);
        if stop {
            return Ok(read);
        }
    }
}

/// Whether it is time to stop.
fn wait(events: &RingBuf<MapData>, stopped: &PipeReader) -> io::Result<bool> {
    let mut fds = [PollFd::new(events.as_fd(), PollFlags::POLLIN), PollFd::new(stopped.as_fd(), PollFlags::POLLIN)];
    match poll(&mut fds, PERIOD_MS) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    Ok(fds[1].revents().is_some_and(|events| !events.is_empty()))
}
