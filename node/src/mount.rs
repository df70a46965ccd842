//! The guard of a mount: the one way in which the daemons touch a path below a CVMFS mount.
//!
//! A FUSE mount whose process hangs blocks every call for ever, and a thread in such a call cannot be stopped. So:
//!
//! - A call runs on a thread of a pool that serves nothing else, and its caller waits no longer than its timeout.
//! - A mount has at most [`Mount::max_calls`] calls outstanding, those included that nobody waits for any more, and all mounts
//!   together have [`MAX_THREADS`]. Further calls wait for their turn within their timeout.
//! - While a call that timed out has not returned, further calls are refused at once, apart from one that finds out whether the
//!   mount works again, [`RETRY_AFTER`] later. If that does not return either, the next is let through when it has, or when
//!   something else is mounted there. So nobody waits for a mount that is known to hang, and it keeps the threads of the calls
//!   that were under way, and one more.
//!
//! ```
//! # use std::time::Duration;
//! # use node::mount::{Mount, MountError};
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let mount = Mount::new("/tmp");
//! let timeout = Duration::from_secs(2);
//! match mount.run(timeout, |call| std::fs::read_dir(call.root())?.map(|entry| Ok(entry?.file_name())).collect()).await {
//!     Ok(names) => { let _: Vec<std::ffi::OsString> = names; }
//!     // No answer within the timeout.
//!     Err(MountError::Hung { .. }) => {}
//!     // Not attempted: an earlier call hangs, or too many are outstanding.
//!     Err(MountError::Busy { .. }) => {}
//!     // The mount answered with an error.
//!     Err(MountError::Io { source, .. }) => drop(source),
//! }
//! # });
//! ```
//!
//! Concurrency: all guards of a mount point in this process share their slots, whoever creates them.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, LazyLock, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::runtime::Runtime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::mount_table::{MountId, MountTable};

/// Outstanding calls of a mount unless [`Mount::with_max_calls`] sets another number. The CVMFS client serves 10 requests at a time
/// by default and must have some left for containers.
pub const DEFAULT_MAX_CALLS: usize = 4;

/// How long after the last call timed out one call is let through to a mount that hangs.
pub const RETRY_AFTER: Duration = Duration::from_secs(10);

/// Maximum number of outstanding calls to all mounts of a process, and with it of threads.
pub const MAX_THREADS: usize = 96;

/// The thread pool of all mounts of this process. It is never shut down, so threads that hang do not keep the process from ending.
static POOL: LazyLock<Option<Runtime>> = LazyLock::new(|| {
    let mut pool = tokio::runtime::Builder::new_current_thread();
    let pool = pool.thread_name("mount").max_blocking_threads(MAX_THREADS).build();
    pool.inspect_err(|error| tracing::error!(%error, "cannot start the thread pool for mounts")).ok()
});

/// The threads of the pool: a call that has no thread is not started, so that it does not count as hung.
static THREADS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(MAX_THREADS)));

/// The guards of this process. A guard stays as long as somebody has it, or a call has not returned.
static GUARDS: LazyLock<Mutex<HashMap<PathBuf, Weak<Inner>>>> = LazyLock::new(Mutex::default);

/// A mount point whose file system may hang. Clones share the guard.
#[derive(Debug, Clone)]
pub struct Mount {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    max_calls: usize,
    slots: Arc<Semaphore>,
    /// Calls that timed out before the mount responded, and have not returned.
    hung: AtomicUsize,
    attempts: Mutex<Attempts>,
}

/// The calls that are let through to a mount that hangs.
#[derive(Debug, Default)]
struct Attempts {
    /// When a call last timed out, or was let through.
    last: Option<Instant>,
    /// The last call that was let through, as long as it has not returned.
    outstanding: Weak<Attempt>,
}

/// A call that was let through to a mount that hangs.
#[derive(Debug)]
struct Attempt {
    /// What was mounted there.
    mounted: Option<MountId>,
}

/// What a call needs before it is made, given back when the call returns, however late.
#[derive(Debug)]
struct Slot {
    _slot: OwnedSemaphorePermit,
    _thread: OwnedSemaphorePermit,
    _attempt: Option<Arc<Attempt>>,
}

/// Why a call has no result.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The call was made, and the mount did not respond in time.
    #[error("mount {mount} did not respond within {} s", timeout.as_secs_f32())]
    Hung {
        /// The mount point.
        mount: PathBuf,
        /// Timeout of the call.
        timeout: Duration,
    },
    /// The call was not made: an earlier call hangs, or the maximum of calls was outstanding until the timeout.
    #[error("mount {mount} is busy: {calls} earlier calls have not returned")]
    Busy {
        /// The mount point.
        mount: PathBuf,
        /// Outstanding calls.
        calls: usize,
    },
    /// The mount responded with an error.
    #[error("mount {mount}: {source}")]
    Io {
        /// The mount point.
        mount: PathBuf,
        /// The error.
        source: io::Error,
    },
}

impl MountError {
    /// The kind of an error that the mount responded with, such as [`io::ErrorKind::NotFound`].
    pub fn io_kind(&self) -> Option<io::ErrorKind> {
        match self {
            Self::Io { source, .. } => Some(source.kind()),
            Self::Hung { .. } | Self::Busy { .. } => None,
        }
    }
}

/// A call under way, on a thread of its own.
#[derive(Debug)]
pub struct Call {
    mount: Mount,
    state: Arc<AtomicU8>,
    _slot: Slot,
}

/// States of a call: the caller waits and the mount has not responded; it has; the caller gave up before it did.
const WAITING: u8 = 0;
const RESPONDED: u8 = 1;
const HUNG: u8 = 2;

impl Call {
    /// The mount point, below which everything that the call does must be.
    pub fn root(&self) -> &Path {
        self.mount.path()
    }

    /// Says that the mount has responded. If the call takes longer than its timeout after that, its caller still gets
    /// [`MountError::Hung`], but the mount does not count as hung: the call only has much to do.
    pub fn responded(&self) {
        if self.state.swap(RESPONDED, Ordering::AcqRel) == HUNG {
            self.mount.inner.hung.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.responded();
    }
}

impl Mount {
    /// Guards the mount at `path` with [`DEFAULT_MAX_CALLS`]. Touches nothing.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self::with_max_calls(path, DEFAULT_MAX_CALLS)
    }

    /// Guards the mount at `path`, with at most `max_calls` outstanding calls. If this process has a guard of this path already,
    /// it is shared, and its number of calls applies.
    pub fn with_max_calls(path: impl Into<PathBuf>, max_calls: usize) -> Self {
        let path = path.into();
        let mut guards = GUARDS.lock();
        if let Some(inner) = guards.get(&path).and_then(Weak::upgrade) {
            return Self { inner };
        }
        guards.retain(|_, guard| guard.strong_count() > 0);
        let inner = Arc::new(Inner {
            path: path.clone(),
            max_calls,
            slots: Arc::new(Semaphore::new(max_calls)),
            hung: AtomicUsize::new(0),
            attempts: Mutex::default(),
        });
        guards.insert(path, Arc::downgrade(&inner));
        Self { inner }
    }

    /// The mount point.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Maximum number of outstanding calls.
    pub fn max_calls(&self) -> usize {
        self.inner.max_calls
    }

    /// Whether a call that timed out has not returned yet.
    pub fn is_hung(&self) -> bool {
        self.inner.hung.load(Ordering::Acquire) > 0
    }

    /// Makes a call on a thread of its own and waits for it, and before that for a slot, at most `timeout` together. The call
    /// goes on when nobody waits for it any more.
    pub async fn run<T: Send + 'static>(
        &self,
        timeout: Duration,
        call: impl FnOnce(&Call) -> io::Result<T> + Send + 'static,
    ) -> Result<T, MountError> {
        let started = Instant::now();
        let attempt = self.check_hung()?;
        let permits =
            async { tokio::try_join!(self.inner.slots.clone().acquire_owned(), THREADS.clone().acquire_owned()) };
        let Ok(Ok((slot, thread))) = tokio::time::timeout(timeout, permits).await else { return Err(self.busy()) };
        // While this call waited, another one may have hung.
        let attempt = if attempt.is_some() { attempt } else { self.check_hung()? };
        let slot = Slot { _slot: slot, _thread: thread, _attempt: attempt };
        self.call(slot, timeout, timeout.saturating_sub(started.elapsed()), call).await
    }

    /// Makes a call as [`Mount::run`] does, but does not wait for a slot.
    pub async fn try_run<T: Send + 'static>(
        &self,
        timeout: Duration,
        call: impl FnOnce(&Call) -> io::Result<T> + Send + 'static,
    ) -> Result<T, MountError> {
        let slot = self.free_slot()?;
        self.call(slot, timeout, timeout, call).await
    }

    /// Makes a call as [`Mount::try_run`] does, for callers outside of asynchronous code. Blocks for at most `timeout`.
    pub fn run_blocking<T: Send + 'static>(
        &self,
        timeout: Duration,
        call: impl FnOnce(&Call) -> io::Result<T> + Send + 'static,
    ) -> Result<T, MountError> {
        let slot = self.free_slot()?;
        let (sender, receiver) = sync_channel(1);
        let state = self.start(slot, call, move |result| {
            // Nobody waits for a late result.
            let _ = sender.send(result);
        });
        match receiver.recv_timeout(timeout) {
            Ok(result) => result.map_err(|source| self.io(source)),
            Err(RecvTimeoutError::Timeout) => Err(self.timed_out(&state, timeout)),
            Err(RecvTimeoutError::Disconnected) => Err(self.io(died())),
        }
    }

    async fn call<T: Send + 'static>(
        &self,
        slot: Slot,
        timeout: Duration,
        rest: Duration,
        call: impl FnOnce(&Call) -> io::Result<T> + Send + 'static,
    ) -> Result<T, MountError> {
        let (sender, receiver) = oneshot::channel();
        let state = self.start(slot, call, move |result| {
            // Nobody waits for a late result.
            let _ = sender.send(result);
        });
        match tokio::time::timeout(rest, receiver).await {
            Ok(Ok(result)) => result.map_err(|source| self.io(source)),
            Ok(Err(_)) => Err(self.io(died())),
            Err(_) => Err(self.timed_out(&state, timeout)),
        }
    }

    /// Starts a call on the pool; its state.
    fn start<T: Send + 'static>(
        &self,
        slot: Slot,
        call: impl FnOnce(&Call) -> io::Result<T> + Send + 'static,
        done: impl FnOnce(io::Result<T>) + Send + 'static,
    ) -> Arc<AtomicU8> {
        let state = Arc::new(AtomicU8::new(WAITING));
        let under_way = Call { mount: self.clone(), state: state.clone(), _slot: slot };
        let span = tracing::Span::current();
        if let Some(pool) = &*POOL {
            pool.spawn_blocking(move || {
                let result = span.in_scope(|| call(&under_way));
                // Before its caller hears of the result: the next call of the same caller finds the slot free.
                drop(under_way);
                done(result);
            });
        }
        state
    }

    fn free_slot(&self) -> Result<Slot, MountError> {
        let attempt = self.check_hung()?;
        let slot = self.inner.slots.clone().try_acquire_owned().map_err(|_| self.busy())?;
        let thread = THREADS.clone().try_acquire_owned().map_err(|_| self.busy())?;
        Ok(Slot { _slot: slot, _thread: thread, _attempt: attempt })
    }

    /// Refuses a call while an earlier one hangs, unless it is time to find out whether the mount works again.
    fn check_hung(&self) -> Result<Option<Arc<Attempt>>, MountError> {
        let is_due = |attempts: &Attempts| attempts.last.is_none_or(|last| last.elapsed() >= RETRY_AFTER);
        if !self.is_hung() {
            return Ok(None);
        }
        if !is_due(&self.inner.attempts.lock()) {
            return Err(self.busy());
        }
        let mounted = MountTable::read().ok().and_then(|table| table.at(self.path()));
        let mut attempts = self.inner.attempts.lock();
        let is_pointless = attempts.outstanding.upgrade().is_some_and(|last| last.mounted == mounted);
        if is_pointless || !is_due(&attempts) {
            return Err(self.busy());
        }
        let attempt = Arc::new(Attempt { mounted });
        *attempts = Attempts { last: Some(Instant::now()), outstanding: Arc::downgrade(&attempt) };
        Ok(Some(attempt))
    }

    fn timed_out(&self, state: &AtomicU8, timeout: Duration) -> MountError {
        // Counted before the call can take it back.
        self.inner.hung.fetch_add(1, Ordering::AcqRel);
        self.inner.attempts.lock().last = Some(Instant::now());
        if state.compare_exchange(WAITING, HUNG, Ordering::AcqRel, Ordering::Acquire).is_err() {
            self.inner.hung.fetch_sub(1, Ordering::AcqRel);
        }
        MountError::Hung { mount: self.inner.path.clone(), timeout }
    }

    fn busy(&self) -> MountError {
        let calls = self.inner.max_calls.saturating_sub(self.inner.slots.available_permits());
        MountError::Busy { mount: self.inner.path.clone(), calls }
    }

    fn io(&self, source: io::Error) -> MountError {
        MountError::Io { mount: self.inner.path.clone(), source }
    }
}

fn died() -> io::Error {
    io::Error::other("the call ended without a result; this is a defect of cvmfs-prefetch")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::mpsc::{Sender, channel};

    const LONG: Duration = Duration::from_secs(30);
    const SHORT: Duration = Duration::from_millis(20);

    /// A call that returns when the sender is used or dropped, as one to a hung mount does when the mount recovers.
    fn hanging() -> (Sender<()>, impl FnOnce(&Call) -> io::Result<()> + Send + 'static) {
        let (release, wait) = channel::<()>();
        (release, move |_: &Call| {
            let _ = wait.recv();
            Ok(())
        })
    }

    /// From now on, a call may be let through again.
    fn is_due(mount: &Mount) {
        mount.inner.attempts.lock().last = Instant::now().checked_sub(RETRY_AFTER);
    }

    async fn until(what: impl Fn() -> bool) {
        let end = Instant::now() + LONG;
        while !what() {
            assert!(Instant::now() < end, "waited in vain");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test]
    async fn results_and_errors_of_the_mount_are_returned() {
        let mount = Mount::new("/nonexistent");
        assert_eq!(mount.run(LONG, |call| Ok(call.root().to_owned())).await.unwrap(), Path::new("/nonexistent"));
        let error = mount.run(LONG, |call| std::fs::metadata(call.root())).await.unwrap_err();
        assert_eq!(error.io_kind(), Some(io::ErrorKind::NotFound));
        assert!(error.to_string().starts_with("mount /nonexistent: "), "{error}");
        assert_eq!(mount.run_blocking(LONG, |_| Ok(3)).unwrap(), 3);
        let panics = mount.run::<()>(LONG, |_| panic!("on purpose")).await;
        assert!(matches!(panics, Err(MountError::Io { .. })), "{panics:?}");
        until(|| mount.inner.slots.available_permits() == DEFAULT_MAX_CALLS).await;
    }

    #[tokio::test]
    async fn a_hung_mount_refuses_calls_until_the_call_returns() {
        let mount = Mount::new("/hung");
        let (release, call) = hanging();
        let error = mount.run(SHORT, call).await.unwrap_err();
        assert!(matches!(error, MountError::Hung { .. }) && mount.is_hung());
        assert_eq!(error.to_string(), "mount /hung did not respond within 0.02 s");
        for refused in [mount.run(LONG, |_| Ok(())).await, mount.run_blocking(LONG, |_| Ok(()))] {
            assert!(matches!(refused, Err(MountError::Busy { calls: 1, .. })), "{refused:?}");
        }
        drop(release);
        until(|| !mount.is_hung()).await;
        mount.run(LONG, |_| Ok(())).await.unwrap();
    }

    #[tokio::test]
    async fn one_call_is_let_through_to_a_hung_mount_now_and_then() {
        let mount = Mount::new("/let-through");
        let (_release, call) = hanging();
        mount.run(SHORT, call).await.unwrap_err();
        is_due(&mount);
        mount.run(LONG, |_| Ok(())).await.unwrap();
        assert!(matches!(mount.run(LONG, |_| Ok(())).await, Err(MountError::Busy { .. })));
        // This one hangs as well.
        is_due(&mount);
        let (release, call) = hanging();
        assert!(matches!(mount.run(SHORT, call).await, Err(MountError::Hung { .. })));
        is_due(&mount);
        assert!(matches!(mount.run(LONG, |_| Ok(())).await, Err(MountError::Busy { .. })), "a thread for each attempt");
        // Another file system is mounted there.
        let other = Arc::new(Attempt { mounted: MountTable::read().unwrap().at(Path::new("/proc")) });
        mount.inner.attempts.lock().outstanding = Arc::downgrade(&other);
        mount.run(LONG, |_| Ok(())).await.unwrap();
        drop(release);
    }

    #[tokio::test]
    async fn a_slow_call_that_the_mount_responded_to_does_not_count_as_hung() {
        let mount = Mount::new("/slow");
        let (release, wait) = channel::<()>();
        let slow = move |call: &Call| {
            call.responded();
            let _ = wait.recv();
            Ok(())
        };
        assert!(matches!(mount.run(SHORT, slow).await, Err(MountError::Hung { .. })));
        assert!(!mount.is_hung());
        mount.run(LONG, |_| Ok(())).await.unwrap();
        drop(release);
        until(|| mount.inner.slots.available_permits() == DEFAULT_MAX_CALLS).await;
    }

    #[tokio::test]
    async fn calls_beyond_the_maximum_wait_for_a_slot() {
        let mount = Mount::with_max_calls("/full", 1);
        let (release, call) = hanging();
        let first = tokio::spawn({
            let mount = mount.clone();
            async move { mount.run(LONG, call).await }
        });
        until(|| mount.inner.slots.available_permits() == 0).await;
        assert!(matches!(mount.try_run(LONG, |_| Ok(())).await, Err(MountError::Busy { calls: 1, .. })));
        assert!(matches!(mount.run(SHORT, |_| Ok(())).await, Err(MountError::Busy { calls: 1, .. })));
        let waiting = mount.run(LONG, |_| Ok(4));
        drop(release);
        assert_eq!(waiting.await.unwrap(), 4);
        first.await.unwrap().unwrap();
        assert!(!mount.is_hung());
    }

    #[tokio::test]
    async fn a_hung_mount_costs_no_more_threads_than_it_has_slots() {
        let mount = Mount::with_max_calls("/threads", 3);
        let calls: Vec<_> = (0..9).map(|_| hanging()).collect();
        let (releases, calls): (Vec<_>, Vec<_>) = calls.into_iter().unzip();
        let mut hung = 0;
        for call in calls {
            // As if each was the one that is let through.
            *mount.inner.attempts.lock() = Attempts::default();
            hung += usize::from(matches!(mount.run(SHORT, call).await, Err(MountError::Hung { .. })));
        }
        assert_eq!((hung, mount.inner.hung.load(Ordering::Acquire)), (3, 3));
        drop(releases);
        until(|| !mount.is_hung()).await;
    }

    #[tokio::test]
    async fn all_guards_of_a_mount_point_are_one() {
        let mount = Mount::with_max_calls("/shared", 1);
        let (release, call) = hanging();
        mount.run(SHORT, call).await.unwrap_err();
        // The call keeps the guard.
        drop(mount);
        let mount = Mount::new("/shared");
        assert!(mount.is_hung() && mount.max_calls() == 1);
        drop(release);
        until(|| !mount.is_hung()).await;
    }
}
