//! New containers of the host, reported before their first process.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use crate::Error;
use crate::reader::{FollowGuard, NewCgroup, Reader};

/// Reports the new containers of the host, see [`crate::Recorder::watch`].
pub struct Watch {
    reader: Arc<Reader>,
    new_cgroups: Receiver<NewCgroup>,
}

/// A container that is about to start. Its events are held back until [`crate::Recorder::record`] records it. Dropping it
/// discards them and takes some milliseconds.
pub struct NewContainer {
    pub(crate) guard: FollowGuard,
    /// The path of its cgroup within the hierarchy. The last component contains the container's id.
    pub cgroup: PathBuf,
}

impl Watch {
    pub(crate) fn start(reader: &Arc<Reader>) -> Result<Self, Error> {
        let (sender, new_cgroups) = channel();
        let mut shared = reader.shared();
        shared.new_cgroups = Some(sender);
        shared.kernel.watch()?;
        drop(shared);
        Ok(Self { reader: Arc::clone(reader), new_cgroups })
    }

    /// Waits for the next new container; None after `timeout`. Fails when the recorder's thread has ended, because nothing more is
    /// recorded then.
    pub fn next(&self, timeout: Duration) -> Result<Option<NewContainer>, Error> {
        match self.new_cgroups.recv_timeout(timeout) {
            Ok(NewCgroup { target, path }) => {
                Ok(Some(NewContainer { guard: FollowGuard::new(&self.reader, target), cgroup: path }))
            }
            Err(RecvTimeoutError::Timeout) if !self.reader.has_ended() => Ok(None),
            Err(_) => Err(Error::ReaderEnded),
        }
    }
}

#[cfg(test)]
mod as_root {
    use crate::cgroup::{Cgroup, Hierarchy};
    use crate::{Options, Recorder};

    use super::*;

    #[test]
    #[ignore = "needs root"]
    fn a_dropped_new_container_is_no_longer_followed() -> Result<(), Error> {
        let options = Options { watch: true, ..Options::default() };
        let watch = Recorder::load(options.clone())?.watch()?;
        let name = format!("/{}-{}", std::process::id(), "0123456789abcdef".repeat(4));
        let cgroup = Cgroup::create(&Hierarchy::detect(options.cgroups)?, name.as_ref())?;
        let new_container = loop {
            let new_container = watch.next(Duration::from_secs(10))?.expect("the new cgroup was not reported");
            // Others may start on this host meanwhile.
            if new_container.cgroup.to_str() == Some(&name) {
                break new_container;
            }
        };
        let target = new_container.guard.target();
        assert!(watch.reader.shared().is_followed(target));
        drop(new_container);
        assert!(!watch.reader.shared().is_followed(target));
        drop(cgroup);
        Ok(())
    }
}
