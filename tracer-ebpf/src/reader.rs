//! The thread that empties the ring buffer, and the state that it shares with the recorder's callers.
//!
//! The kernel part wakes the thread only when an eighth of the ring is unread, or when a container starts; otherwise it
//! polls every [`PERIOD_MS`]. It ends when the recorder closes its end of a pipe.

use std::collections::HashMap;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::{self, JoinHandle};

use aya::maps::{MapData, RingBuf};
use bundles::path::RootPath;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use parking_lot::{Mutex, MutexGuard};

use crate::Error;
use crate::container::{Advice, TracedContainer};
use crate::event::{self, Event, EventKind};
use crate::program::Kernel;

const PERIOD_MS: u8 = 20;
/// During set-up the thread polls more often, so that it reads the mounts even of a container that ends quickly.
const SET_UP_PERIOD_MS: u8 = 2;

/// A new cgroup that the kernel part made a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewCgroup {
    pub(crate) target: u64,
    /// Absolute within the hierarchy.
    pub(crate) path: PathBuf,
}

pub(crate) struct Shared {
    pub(crate) kernel: Kernel,
    events: RingBuf<MapData>,
    /// By target.
    pub(crate) containers: HashMap<u64, TracedContainer>,
    /// Receives new cgroups while somebody watches for them.
    pub(crate) new_cgroups: Option<Sender<NewCgroup>>,
    /// Where the cgroup hierarchy is mounted.
    mount_point: PathBuf,
    /// Records that [`event::parse`] rejected.
    malformed: u64,
}

/// Owns the thread: dropping it ends the thread.
pub(crate) struct Reader {
    shared: Arc<Mutex<Shared>>,
    thread: Option<JoinHandle<()>>,
    stop: Option<PipeWriter>,
}

impl Reader {
    pub(crate) fn start(kernel: Kernel, events: RingBuf<MapData>, mount_point: PathBuf) -> Result<Self, Error> {
        let system = |what| move |source| Error::System { what, source };
        let (stopped, stop) = io::pipe().map_err(system("create a pipe"))?;
        let ready = events.as_fd().try_clone_to_owned().map_err(system("duplicate the ring buffer's descriptor"))?;
        let shared = Arc::new(Mutex::new(Shared {
            kernel,
            events,
            containers: HashMap::new(),
            new_cgroups: None,
            mount_point,
            malformed: 0,
        }));
        let thread_shared = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("recorder".into())
            .spawn(move || run(&thread_shared, &ready, &stopped))
            .map_err(system("start its thread"))?;
        Ok(Self { shared, thread: Some(thread), stop: Some(stop) })
    }

    pub(crate) fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock()
    }

    /// Whether the thread has ended because of an error. Then nobody empties the ring buffer any more.
    pub(crate) fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the recorder's thread panicked");
        }
    }
}

/// Keeps a container followed. Dropping it stops following the container.
pub(crate) struct FollowGuard {
    reader: Arc<Reader>,
    target: u64,
}

impl FollowGuard {
    pub(crate) fn new(reader: &Arc<Reader>, target: u64) -> Self {
        Self { reader: Arc::clone(reader), target }
    }

    /// The id of the container's cgroup.
    pub(crate) fn target(&self) -> u64 {
        self.target
    }

    pub(crate) fn shared(&self) -> MutexGuard<'_, Shared> {
        self.reader.shared()
    }

    /// Whether the recording of the container has failed: its trace cannot be written, or the recorder's thread has ended.
    pub(crate) fn has_failed(&self) -> bool {
        self.reader.has_ended() || self.shared().containers.get(&self.target).is_some_and(TracedContainer::has_failed)
    }
}

impl Drop for FollowGuard {
    fn drop(&mut self) {
        self.shared().remove_container(self.target);
    }
}

fn run(shared: &Mutex<Shared>, ready: &OwnedFd, stopped: &PipeReader) {
    let mut period = PERIOD_MS;
    while !wait(ready, stopped, period) {
        let mut shared = shared.lock();
        shared.drain();
        let mut in_set_up = false;
        for container in shared.containers.values_mut() {
            container.tick();
            in_set_up |= container.is_in_set_up();
        }
        period = if in_set_up { SET_UP_PERIOD_MS } else { PERIOD_MS };
    }
}

/// Waits for events or the end of the period. Returns whether to stop.
fn wait(ready: &OwnedFd, stopped: &PipeReader, period_ms: u8) -> bool {
    let mut fds = [PollFd::new(ready.as_fd(), PollFlags::POLLIN), PollFd::new(stopped.as_fd(), PollFlags::POLLIN)];
    match poll(&mut fds, period_ms) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(errno) => {
            tracing::error!(%errno, "the recorder stops: cannot wait for events");
            return true;
        }
    }
    fds[1].revents().is_some_and(|events| !events.is_empty())
}

impl Shared {
    /// Handles all events in the ring.
    pub(crate) fn drain(&mut self) {
        while let Some(event) = self.events.next().map(|record| event::parse(&record)) {
            match event {
                Some(event) => self.handle(event),
                None => self.malformed += 1,
            }
        }
        self.find_lost_first_execs();
    }

    /// Finds containers whose first exec was not reported because the ring was full.
    fn find_lost_first_execs(&mut self) {
        let Ok(root) = RootPath::new("/") else { return };
        for (target, container) in self.containers.iter_mut().filter(|(_, container)| container.is_in_set_up()) {
            if let Some((first_exec_ns, device)) = self.kernel.first_exec(*target) {
                // The map has no path. A container's root is nearly always that of its file system.
                container.set_first_exec(first_exec_ns, 0, device, &root);
            }
        }
    }

    fn handle(&mut self, event: Event) {
        let target = event.target;
        if let EventKind::Cgroup { path } = &event.kind {
            let path = PathBuf::from(String::from_utf8_lossy(path).into_owned());
            self.announce_cgroup(target, path);
        } else if target == 0 {
            for container in self.containers.values_mut().filter(|container| container.is_in_set_up()) {
                container.handle(event.clone());
            }
        } else if let Some(container) = self.containers.get_mut(&target)
            && let Some(Advice::IgnoreContent(inode)) = container.handle(event)
        {
            self.kernel.ignore_content(target, inode);
        }
    }

    /// Reports a new cgroup to the watcher. Its events are held back until the watcher has decided whether to record it.
    fn announce_cgroup(&mut self, target: u64, path: PathBuf) {
        let directory = self.mount_point.join(path.strip_prefix("/").unwrap_or(&path));
        self.add_container(target, TracedContainer::new(directory));
        let sent = self.new_cgroups.as_ref().is_some_and(|watcher| watcher.send(NewCgroup { target, path }).is_ok());
        if !sent {
            self.remove_container(target);
        }
    }

    /// From now on the container receives the events of the target.
    pub(crate) fn add_container(&mut self, target: u64, mut container: TracedContainer) {
        container.losses_before = self.unattributed_losses();
        self.containers.insert(target, container);
    }

    /// Events lost since the recorder was loaded whose container is unknown.
    pub(crate) fn unattributed_losses(&self) -> u64 {
        self.malformed + self.kernel.recursion_misses()
    }

    /// Stops following a container, unless that has happened already.
    fn remove_container(&mut self, target: u64) {
        if self.containers.remove(&target).is_none() {
            return;
        }
        let unfollowed = self.kernel.unfollow(target).and_then(|_| self.kernel.take_page_bitmaps(target));
        if let Err(error) = unfollowed {
            tracing::warn!(%error, "cannot stop following a container that is not recorded");
        }
    }

    #[cfg(test)]
    pub(crate) fn is_followed(&self, target: u64) -> bool {
        self.containers.contains_key(&target) || self.kernel.is_followed(target)
    }
}

#[cfg(test)]
mod as_root {
    use crate::Options;
    use crate::cgroup::Hierarchy;

    use super::*;

    #[test]
    #[ignore = "needs root"]
    fn losses_before_a_container_was_added_are_not_its_losses() -> Result<(), Error> {
        let options = Options::default();
        let hierarchy = Hierarchy::detect(options.cgroups)?;
        let (kernel, events) = Kernel::load(&options, &hierarchy)?;
        let reader = Reader::start(kernel, events, hierarchy.mount_point)?;
        let mut shared = reader.shared();
        shared.malformed = 5;
        let before = 5 + shared.kernel.recursion_misses();
        shared.add_container(1, TracedContainer::new(PathBuf::from("/test")));
        assert_eq!(shared.containers[&1].losses_before, before);
        Ok(())
    }
}
