//! Containers that begin while the host is watched.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::Error;
use crate::reader::{Followed, NewCgroup, Reader};

/// The newcomers of a host, as they come.
pub struct Watch {
    reader: Arc<Reader>,
    newcomers: Receiver<NewCgroup>,
}

/// A container that is about to begin. It is followed already: [`crate::Recorder::adopt`] records it, and dropped it is
/// forgotten, which takes some milliseconds.
pub struct Newcomer {
    pub(crate) followed: Followed,
    /// The path of its cgroup in the hierarchy, which ends in the container's id.
    pub cgroup: PathBuf,
}

impl Watch {
    pub(crate) fn start(reader: &Arc<Reader>) -> Result<Self, Error> {
        let (sender, newcomers) = channel();
        let mut shared = reader.shared();
        shared.watcher = Some(sender);
        shared.kernel.watch()?;
        drop(shared);
        Ok(Self { reader: Arc::clone(reader), newcomers })
    }

    /// The next one; none if there was none within `limit`.
    pub fn next(&self, limit: Duration) -> Option<Newcomer> {
        let NewCgroup { target, path } = self.newcomers.recv_timeout(limit).ok()?;
        Some(Newcomer { followed: Followed::new(&self.reader, target), cgroup: path })
    }
}

#[cfg(test)]
mod tests {
    use crate::cgroup::{Cgroup, Hierarchy};
    use crate::{Options, Recorder};

    use super::*;

    #[test]
    fn a_newcomer_that_nobody_wants_is_forgotten() -> Result<(), Error> {
        let options = Options { watch: true, ..Options::default() };
        let watch = Recorder::load(options.clone())?.watch()?;
        let name = format!("/{}-{}", std::process::id(), "0123456789abcdef".repeat(4));
        let cgroup = Cgroup::create(&Hierarchy::of_host(&options)?, name.as_ref())?;
        let newcomer = loop {
            let newcomer = watch.next(Duration::from_secs(10)).expect("it was not seen");
            // Others may begin on this host, too.
            if newcomer.cgroup.to_str() == Some(&name) {
                break newcomer;
            }
        };
        let target = newcomer.followed.target();
        assert!(watch.reader.shared().follows(target));
        drop(newcomer);
        assert!(!watch.reader.shared().follows(target));
        drop(cgroup);
        Ok(())
    }
}
