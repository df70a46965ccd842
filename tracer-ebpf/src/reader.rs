//! The thread that empties the ring buffer, and what it and the recorder's callers share.
//!
//! The kernel part wakes it only when an eighth of the ring is unread, or when a container begins; otherwise it comes by
//! itself every [`PERIOD_MS`]. It ends when the recorder's end of a pipe is closed.

use std::collections::HashMap;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use aya::maps::{MapData, RingBuf};
use bundles::path::RootPath;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};

use crate::Error;
use crate::event::{self, Event, What};
use crate::follower::{Advice, Follower};
use crate::program::Kernel;

const PERIOD_MS: u8 = 20;
/// While a container is set up its mounts are looked for more often.
const SETTING_UP_MS: u8 = 2;

/// A cgroup that the kernel part has made a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewCgroup {
    pub(crate) target: u64,
    /// In its hierarchy.
    pub(crate) path: PathBuf,
}

pub(crate) struct Shared {
    pub(crate) kernel: Kernel,
    events: RingBuf<MapData>,
    pub(crate) followers: HashMap<u64, Follower>,
    /// Where new cgroups are told, if they are watched.
    pub(crate) watcher: Option<Sender<NewCgroup>>,
    /// Where the hierarchy of cgroups is mounted.
    pub(crate) hierarchy: PathBuf,
    /// Records that could not be understood.
    pub(crate) malformed: u64,
}

pub(crate) struct Reader {
    shared: Arc<Mutex<Shared>>,
    thread: Option<JoinHandle<()>>,
    stop: Option<PipeWriter>,
}

impl Reader {
    pub(crate) fn start(kernel: Kernel, events: RingBuf<MapData>, hierarchy: PathBuf) -> Result<Self, Error> {
        let system = |what| move |source| Error::System { what, source };
        let (stopped, stop) = io::pipe().map_err(system("make a pipe"))?;
        let ready = events.as_fd().try_clone_to_owned().map_err(system("share the ring buffer"))?;
        let (followers, watcher) = (HashMap::new(), None);
        let shared = Arc::new(Mutex::new(Shared { kernel, events, followers, watcher, hierarchy, malformed: 0 }));
        let of_thread = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("tracer".into())
            .spawn(move || run(&of_thread, &ready, &stopped))
            .map_err(system("start its thread"))?;
        Ok(Self { shared, thread: Some(thread), stop: Some(stop) })
    }

    pub(crate) fn shared(&self) -> MutexGuard<'_, Shared> {
        lock(&self.shared)
    }
}

/// A container that the kernel part tells of. Dropped, it is forgotten.
pub(crate) struct Followed {
    reader: Arc<Reader>,
    target: u64,
}

impl Followed {
    pub(crate) fn new(reader: &Arc<Reader>, target: u64) -> Self {
        Self { reader: Arc::clone(reader), target }
    }

    /// The id of its cgroup.
    pub(crate) fn target(&self) -> u64 {
        self.target
    }

    pub(crate) fn shared(&self) -> MutexGuard<'_, Shared> {
        self.reader.shared()
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.shared().forget(self.target);
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

/// What a panic left is still good: each event is taken whole.
fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run(shared: &Mutex<Shared>, ready: &OwnedFd, stopped: &PipeReader) {
    let mut period = PERIOD_MS;
    while !wait(ready, stopped, period) {
        let mut shared = lock(shared);
        shared.drain();
        let mut setting_up = false;
        for follower in shared.followers.values_mut() {
            follower.tick();
            setting_up |= follower.is_setting_up();
        }
        period = if setting_up { SETTING_UP_MS } else { PERIOD_MS };
    }
}

/// Whether it is time to stop.
fn wait(ready: &OwnedFd, stopped: &PipeReader, period_ms: u8) -> bool {
    let mut fds = [PollFd::new(ready.as_fd(), PollFlags::POLLIN), PollFd::new(stopped.as_fd(), PollFlags::POLLIN)];
    match poll(&mut fds, period_ms) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(errno) => {
            tracing::error!(%errno, "the recorder cannot wait for events and stops");
            return true;
        }
    }
    fds[1].revents().is_some_and(|events| !events.is_empty())
}

impl Shared {
    /// Takes all that is in the ring.
    pub(crate) fn drain(&mut self) {
        while let Some(event) = self.events.next().map(|record| event::parse(&record)) {
            match event {
                Some(event) => self.take(event),
                None => self.malformed += 1,
            }
        }
        self.begin_missed();
    }

    /// Containers whose beginning found no room in the ring have begun all the same.
    fn begin_missed(&mut self) {
        let Ok(root) = RootPath::new("/") else { return };
        for (target, follower) in self.followers.iter_mut().filter(|(_, follower)| follower.is_setting_up()) {
            if let Some((began_ns, device)) = self.kernel.began(*target) {
                // Its root is nearly always that of its file system.
                follower.begin(began_ns, 0, device, &root);
            }
        }
    }

    fn take(&mut self, event: Event) {
        match &event.what {
            What::Cgroup { path } => {
                let path = PathBuf::from(String::from_utf8_lossy(path).into_owned());
                self.greet(event.target, path);
            }
            _ if event.target == 0 => {
                for follower in self.followers.values_mut().filter(|follower| follower.is_setting_up()) {
                    follower.take(event.clone());
                }
            }
            _ => {
                let target = event.target;
                let follower = self.followers.get_mut(&target);
                if let Some(Advice::Foreign(inode)) = follower.and_then(|follower| follower.take(event)) {
                    self.kernel.ignore(target, inode);
                }
            }
        }
    }

    /// A new cgroup: its events wait until somebody has decided about it.
    fn greet(&mut self, target: u64, path: PathBuf) {
        let directory = self.hierarchy.join(path.strip_prefix("/").unwrap_or(&path));
        self.enrol(target, Follower::new(directory));
        let told = self.watcher.as_ref().is_some_and(|watcher| watcher.send(NewCgroup { target, path }).is_ok());
        if !told {
            self.forget(target);
        }
    }

    /// From now on events of the target are the follower's.
    pub(crate) fn enrol(&mut self, target: u64, mut follower: Follower) {
        follower.unread_before = self.unread();
        self.followers.insert(target, follower);
    }

    /// Events that were lost since the recorder was loaded, of nobody knows which container.
    pub(crate) fn unread(&self) -> u64 {
        self.malformed + self.kernel.missed()
    }

    /// Nobody wants to know of this target any more.
    fn forget(&mut self, target: u64) {
        if self.followers.remove(&target).is_none() {
            return;
        }
        let left = self.kernel.leave(target).map(drop).and_then(|()| self.kernel.take_pieces(target).map(drop));
        if let Err(error) = left {
            tracing::warn!(%error, "a container that is not recorded is still followed");
        }
    }

    #[cfg(test)]
    pub(crate) fn follows(&self, target: u64) -> bool {
        self.followers.contains_key(&target) || self.kernel.follows(target)
    }
}

#[cfg(test)]
mod tests {
    use crate::Options;
    use crate::cgroup::Hierarchy;

    use super::*;

    #[test]
    fn what_was_lost_before_a_container_is_not_lost_of_it() -> Result<(), Error> {
        let options = Options::default();
        let hierarchy = Hierarchy::of_host(&options)?;
        let (kernel, events) = Kernel::load(&options, &hierarchy)?;
        let reader = Reader::start(kernel, events, hierarchy.point)?;
        let mut shared = reader.shared();
        shared.malformed = 5;
        let before = 5 + shared.kernel.missed();
        shared.enrol(1, Follower::new(PathBuf::from("/one")));
        assert_eq!(shared.followers[&1].unread_before, before);
        Ok(())
    }
}
