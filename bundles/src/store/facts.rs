//! What a store knows about a bundle besides its content.
//!
//! ```text
//! offset  size  content
//!      0     8  size of the bundle file in bytes, little endian
//!      8     8  last use: microseconds since 1970, little endian
//!     16        nothing, or: mount point, NUL, version
//! ```

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What a store knows about a bundle besides its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Size of the bundle file in bytes.
    pub size: u64,
    /// Time of the last use, or of the insertion.
    pub used: SystemTime,
    /// File it was read from; `None` if it came from elsewhere.
    pub origin: Option<Origin>,
}

/// The file that a bundle was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Mount point of the file's repository.
    pub mount: PathBuf,
    /// Version of the file's content: [`crate::attribute::content_version`].
    pub version: String,
}

impl Facts {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let since = self.used.duration_since(UNIX_EPOCH).unwrap_or_default();
        let used = u64::try_from(since.as_micros()).unwrap_or(u64::MAX);
        let mut bytes = [self.size.to_le_bytes(), used.to_le_bytes()].concat();
        if let Some(Origin { mount, version }) = &self.origin {
            bytes.extend_from_slice(mount.as_os_str().as_bytes());
            bytes.push(0);
            bytes.extend_from_slice(version.as_bytes());
        }
        bytes
    }

    /// `None` if the bytes are not valid.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (size, rest) = bytes.split_first_chunk()?;
        let (used, rest) = rest.split_first_chunk()?;
        let used = UNIX_EPOCH.checked_add(Duration::from_micros(u64::from_le_bytes(*used)))?;
        let origin = match rest {
            [] => None,
            _ => {
                let end = rest.iter().position(|byte| *byte == 0)?;
                let version = String::from_utf8(rest[end + 1..].to_vec()).ok()?;
                Some(Origin { mount: OsStr::from_bytes(&rest[..end]).into(), version })
            }
        };
        Some(Self { size: u64::from_le_bytes(*size), used, origin })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_survive_a_round_trip_and_garbage_is_refused() {
        let used = UNIX_EPOCH + Duration::from_micros(1_700_000_000_000_001);
        let origin = Origin { mount: "/cvmfs/a.b".into(), version: "hash abc".into() };
        for origin in [None, Some(origin)] {
            let facts = Facts { size: 7, used, origin };
            assert_eq!(Facts::from_bytes(&facts.to_bytes()), Some(facts));
        }
        for bad in [&b""[..], &[0; 15], &[1; 20], &[vec![0; 16], b"/x\0\xff".to_vec()].concat()] {
            assert_eq!(Facts::from_bytes(bad), None, "{bad:?}");
        }
    }
}
