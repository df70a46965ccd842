//! Remembers whether a repository has bundles.
//!
//! Most repositories of a node have none. Looking into each of them for every image would keep all of them mounted where an
//! automounter mounts a repository that somebody uses.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bundles::attribute::attribute;
use parking_lot::Mutex;

/// How many times longer it is remembered that a repository has no bundles than that an image has none: a repository begins to
/// have bundles once.
const FACTOR: u32 = 720;

/// Whether a repository has bundles. Clones share the knowledge.
#[derive(Debug, Clone, Default)]
pub(super) struct Presence(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
enum Known {
    #[default]
    Nothing,
    HasBundles {
        /// The revision of the repository in which they were seen.
        revision: Option<String>,
    },
    HasNone {
        since: Instant,
    },
}

impl Presence {
    /// The revision of the repository at `mount`, unless it is known in which one it has bundles. Blocks for as long as the mount
    /// does.
    pub(super) fn first_revision(&self, mount: &Path) -> Option<String> {
        if self.has_bundles() { None } else { attribute(mount, "user.revision").ok().flatten() }
    }

    /// The repository has bundles, after it had the [first revision](Self::first_revision) `revision`.
    pub(super) fn found(&self, revision: Option<String>) {
        let mut known = self.0.lock();
        if !matches!(*known, Known::HasBundles { .. }) {
            *known = Known::HasBundles { revision };
        }
    }

    /// The repository has `now` as its revision. Whether it had another one.
    pub(super) fn is_new_revision(&self, now: &str) -> bool {
        match &mut *self.0.lock() {
            Known::HasBundles { revision } => revision.replace(now.to_owned()).is_some_and(|before| before != now),
            _ => false,
        }
    }

    /// There are no bundles below `mount`. This is remembered only if a CVMFS client says that a repository is mounted there. Blocks
    /// for as long as the mount does.
    pub(super) fn not_found(&self, mount: &Path) {
        let is_mounted = attribute(mount, "user.fqrn").is_ok_and(|name| name.is_some());
        *self.0.lock() = if is_mounted { Known::HasNone { since: Instant::now() } } else { Known::Nothing };
    }

    /// Forgets that there are no bundles.
    pub(super) fn forget_absent(&self) {
        let mut known = self.0.lock();
        if let Known::HasNone { .. } = *known {
            *known = Known::Nothing;
        }
    }

    /// Whether the repository has bundles for certain.
    pub(super) fn has_bundles(&self) -> bool {
        matches!(*self.0.lock(), Known::HasBundles { .. })
    }

    /// Whether the repository was seen to have no bundles. `absent_ttl` is how long that is remembered of an image.
    pub(super) fn has_none(&self, absent_ttl: Duration) -> bool {
        matches!(*self.0.lock(), Known::HasNone { since } if since.elapsed() < absent_ttl.saturating_mul(FACTOR))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn absence_is_remembered_only_of_a_mounted_repository() {
        let mount = tempfile::tempdir().unwrap();
        let presence = Presence::default();
        presence.not_found(mount.path());
        assert!(!presence.has_none(LONG) && !presence.has_bundles());
        xattr::set(mount.path(), "user.fqrn", b"unpacked.test.example").unwrap();
        presence.not_found(mount.path());
        assert!(presence.has_none(LONG) && !presence.has_none(Duration::ZERO));
        presence.forget_absent();
        assert!(!presence.has_none(LONG));
        presence.found(presence.first_revision(mount.path()));
        presence.forget_absent();
        assert!(presence.has_bundles() && !presence.has_none(LONG));
    }

    #[test]
    fn revisions_are_compared_with_the_one_before_the_first_lookup() {
        let mount = tempfile::tempdir().unwrap();
        xattr::set(mount.path(), "user.revision", b"7").unwrap();
        let presence = Presence::default();
        assert!(!presence.is_new_revision("6"), "nothing is known of it");
        let first = presence.first_revision(mount.path());
        presence.found(first);
        assert_eq!(presence.first_revision(mount.path()), None);
        presence.found(Some("8".into()));
        for (now, expected) in [("7", false), ("8", true), ("8", false), ("7", true)] {
            assert_eq!(presence.is_new_revision(now), expected, "{now}");
        }
    }
}
