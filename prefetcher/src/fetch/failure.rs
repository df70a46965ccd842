//! Why an object could not be fetched.

use std::fmt;

use bundles::object::ObjectError;
use node::mount::MountError;
use tokio::sync::AcquireError;

use crate::cache::CacheError;
use crate::cache::mount_reader::ReadError;

/// What failed. Each cause has a count of its own in the tally.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Server, proxy or link: connection, HTTP status, timeout.
    Transfer,
    /// The content did not match the hash or size.
    Verification,
    /// The cache could not be written.
    Write,
}

/// Which hop later downloads should avoid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The proxy; the server if there is no proxy.
    Proxy,
    /// The server behind the proxy.
    Server,
}

/// The failure of an attempt, or of all attempts for an object.
#[derive(Debug, Clone)]
pub struct Failure {
    /// What is counted in the tally.
    pub cause: Cause,
    /// Which hop later downloads should avoid.
    pub blame: Blame,
    /// Whether the same server may succeed a moment later.
    pub transient: bool,
    /// Whether the server does not have the object.
    pub absent: bool,
    /// Message for people.
    pub why: String,
}

impl Failure {
    /// A failure of link or server that may pass.
    pub fn transient(why: impl Into<String>) -> Self {
        Self { cause: Cause::Transfer, blame: Blame::Server, transient: true, absent: false, why: why.into() }
    }

    /// A refusal by the server that will not change.
    pub fn refused(why: impl Into<String>) -> Self {
        Self { transient: false, ..Self::transient(why) }
    }

    /// The server does not have the object.
    pub fn absent(why: impl Into<String>) -> Self {
        Self { absent: true, ..Self::refused(why) }
    }

    /// Bytes that do not match the hash or size.
    pub fn wrong(why: impl Into<String>) -> Self {
        Self { cause: Cause::Verification, transient: false, ..Self::transient(why) }
    }

    /// A failure to write to the cache.
    pub fn write(why: impl Into<String>) -> Self {
        Self { cause: Cause::Write, transient: false, ..Self::transient(why) }
    }

    /// The same failure, caused by another hop.
    #[must_use]
    pub fn by(self, blame: Blame) -> Self {
        Self { blame, ..self }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl From<AcquireError> for Failure {
    /// Semaphores close only when the daemon shuts down.
    fn from(_: AcquireError) -> Self {
        Self::transient("the daemon is shutting down")
    }
}

impl From<ObjectError> for Failure {
    fn from(error: ObjectError) -> Self {
        Self::wrong(error.to_string())
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        match &error {
            ReadError::Mount { source: MountError::Io { .. }, .. } => Self::refused(error.to_string()),
            ReadError::Mount { .. } | ReadError::Queue(_) => Self::transient(error.to_string()),
        }
    }
}

impl From<CacheError> for Failure {
    fn from(error: CacheError) -> Self {
        Self::write(error.to_string())
    }
}
