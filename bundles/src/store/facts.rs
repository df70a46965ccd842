//! What a store knows about a bundle besides its content.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::codec::{Decode, Encode, Format};
use crate::image::Digest;

/// How long a bundle that was found bad is not used. Then it gets another chance: its objects may only have been late.
pub const BAD_FOR: Duration = Duration::from_secs(3600);

/// After this many deliveries in a row during which the kernel killed the process for its memory, a bundle is bad. One such death says
/// little about one of the bundles that were delivered at that time.
pub(super) const MAX_DEATHS: u8 = 2;

/// The stored facts about one bundle: `CPFF`.
const FORMAT: Format = Format { name: "facts about a bundle", magic: *b"CPFF", major: 1, minor: 0 };

/// What a store knows about a bundle besides its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Size of the bundle file in bytes.
    pub size: u64,
    /// Time of the last use, or of the insertion.
    pub used: SystemTime,
    /// Where it came from; `None` if it was imported.
    pub origin: Option<Origin>,
    /// Set if the bundle was found bad. It holds for [`BAD_FOR`], and for the bundle of this origin only.
    pub bad: Option<Bad>,
    /// Set while a delivery is under way: the kernel's count of processes that it killed for memory, when the delivery began.
    pub under_way: Option<u64>,
    /// Deliveries in a row during which the kernel killed the process for its memory.
    pub deaths: u8,
}

/// Where a bundle came from.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[bincode(crate = "crate::codec")]
pub enum Origin {
    /// A file in a repository.
    Repository {
        /// Mount point of the repository.
        mount: PathBuf,
        /// Version of the file's content: [`crate::attribute::content_version`].
        version: String,
    },
    /// An artifact beside the image in a registry.
    Registry {
        /// The image by which it was found: `<registry>/<repository>@<digest>`.
        image: String,
        /// Digest of the artifact's manifest.
        artifact: Digest,
    },
}

/// A bundle was found bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bad {
    /// What was wrong.
    pub reason: BadReason,
    /// When that was found.
    pub since: SystemTime,
}

/// What is wrong with a bad bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[bincode(crate = "crate::codec")]
pub enum BadReason {
    /// The servers do not have its objects.
    ObjectsMissing,
    /// The kernel killed the daemon for its memory during its deliveries.
    OutOfMemory,
}

/// The facts as they are stored: times in microseconds since 1970.
#[derive(Encode, Decode)]
#[bincode(crate = "crate::codec")]
struct Stored {
    size: u64,
    used: u64,
    origin: Option<Origin>,
    bad: Option<(BadReason, u64)>,
    under_way: Option<u64>,
    deaths: u8,
}

impl Facts {
    /// The facts about a bundle that has just been stored.
    pub(super) fn new(size: u64, used: SystemTime, origin: Option<Origin>) -> Self {
        Self { size, used, origin, bad: None, under_way: None, deaths: 0 }
    }

    /// Why the bundle is not used at `now`.
    pub fn bad_at(&self, now: SystemTime) -> Option<Bad> {
        // A time in the future was recorded while the clock was wrong.
        self.bad.filter(|bad| now.duration_since(bad.since).is_ok_and(|age| age < BAD_FOR))
    }

    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, crate::codec::FormatError> {
        let bad = self.bad.map(|Bad { reason, since }| (reason, microseconds(since)));
        let Self { size, used, origin, bad: _, under_way, deaths } = self.clone();
        FORMAT.seal(&Stored { size, used: microseconds(used), origin, bad, under_way, deaths })
    }

    /// `None` if the bytes are not valid.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let Stored { size, used, origin, bad, under_way, deaths } = FORMAT.open(bytes).ok()?;
        let bad = match bad {
            Some((reason, since)) => Some(Bad { reason, since: time(since)? }),
            None => None,
        };
        Some(Self { size, used: time(used)?, origin, bad, under_way, deaths })
    }
}

impl Origin {
    /// For people: the mount point, or the image in its registry.
    pub fn name(&self) -> String {
        match self {
            Self::Repository { mount, .. } => mount.display().to_string(),
            Self::Registry { image, .. } => format!("registry {image}"),
        }
    }
}

fn microseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

pub(super) fn time(microseconds: u64) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::from_micros(microseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_survive_a_round_trip_and_garbage_is_refused() {
        let used = UNIX_EPOCH + Duration::from_micros(1_700_000_000_000_001);
        let repository = Origin::Repository { mount: "/cvmfs/a.b".into(), version: "hash abc".into() };
        let registry = Origin::Registry { image: "r/i@sha256:00".into(), artifact: Digest::sha256(b"a") };
        for origin in [None, Some(repository), Some(registry)] {
            for bad in [None, Some(Bad { reason: BadReason::OutOfMemory, since: used })] {
                let facts = Facts { bad, under_way: Some(7), deaths: 1, ..Facts::new(7, used, origin.clone()) };
                assert_eq!(Facts::from_bytes(&facts.to_bytes().unwrap()), Some(facts));
            }
        }
        for bad in [&b""[..], &[0; 15], &[1; 200]] {
            assert_eq!(Facts::from_bytes(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_bundle_is_bad_for_a_while() {
        let since = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let bad = Some(Bad { reason: BadReason::ObjectsMissing, since });
        let facts = Facts { bad, ..Facts::new(7, since, None) };
        assert_eq!((facts.bad_at(since), facts.bad_at(since + BAD_FOR / 2)), (bad, bad));
        assert_eq!(facts.bad_at(since + BAD_FOR), None);
        assert_eq!(facts.bad_at(since - Duration::from_secs(1)), None, "the clock was set back");
    }
}
