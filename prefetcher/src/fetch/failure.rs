//! Why an object could not be had.

use std::fmt;

use bundles::object::ObjectError;
use node::mount::MountError;
use tokio::sync::AcquireError;

use crate::cache::SinkError;
use crate::cache::through_mount::ReadError;

/// What went wrong. Each is counted on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The server's or line's: connection, HTTP status, time-out.
    Transfer,
    /// Other bytes than those asked for came.
    Verification,
    /// The sink did not take them.
    Write,
}

/// Who is to be passed over for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The proxy, if there is one; else the server.
    Proxy,
    /// The server.
    Server,
}

/// One attempt's or one object's failure.
#[derive(Debug, Clone)]
pub struct Failure {
    /// For the tally.
    pub cause: Cause,
    /// Whose fault it is.
    pub blame: Blame,
    /// Whether the same server may do better a moment later.
    pub transient: bool,
    /// For people.
    pub why: String,
}

impl Failure {
    /// The line or server failed in a way that may pass.
    pub fn transient(why: impl Into<String>) -> Self {
        Self { cause: Cause::Transfer, blame: Blame::Server, transient: true, why: why.into() }
    }

    /// The server refuses for good.
    pub fn refused(why: impl Into<String>) -> Self {
        Self { transient: false, ..Self::transient(why) }
    }

    /// The server has other bytes under this name.
    pub fn wrong(why: impl Into<String>) -> Self {
        Self { cause: Cause::Verification, transient: false, ..Self::transient(why) }
    }

    /// The sink did not take the object.
    pub fn write(why: impl Into<String>) -> Self {
        Self { cause: Cause::Write, transient: false, ..Self::transient(why) }
    }

    /// The same, with somebody else to blame.
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
    /// Semaphores are closed only when the daemon shuts down.
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

impl From<SinkError> for Failure {
    fn from(error: SinkError) -> Self {
        Self::write(error.to_string())
    }
}
