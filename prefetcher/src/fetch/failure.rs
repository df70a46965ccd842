//! Why an object could not be had.

use std::fmt;

use bundles::object::BadObject;

use crate::sink::SinkError;

/// Whose fault it was. Each is counted on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The server's or line's: connection, HTTP status, time-out.
    Transfer,
    /// Other bytes than those asked for came.
    Verification,
    /// The sink did not take them.
    Write,
}

/// One attempt's or one object's failure.
#[derive(Debug, Clone)]
pub struct Failure {
    /// For the account.
    pub cause: Cause,
    /// Whether the same server may do better a moment later.
    pub transient: bool,
    /// For people.
    pub why: String,
}

impl Failure {
    /// The line or server failed in a way that may pass.
    pub fn transient(why: impl Into<String>) -> Self {
        Self { cause: Cause::Transfer, transient: true, why: why.into() }
    }

    /// The server refuses for good.
    pub fn refused(why: impl Into<String>) -> Self {
        Self { cause: Cause::Transfer, transient: false, why: why.into() }
    }

    /// The server has other bytes under this name.
    pub fn wrong(why: impl Into<String>) -> Self {
        Self { cause: Cause::Verification, transient: false, why: why.into() }
    }

    /// The sink did not take the object.
    pub fn write(why: impl Into<String>) -> Self {
        Self { cause: Cause::Write, transient: false, why: why.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl From<BadObject> for Failure {
    fn from(error: BadObject) -> Self {
        Self::wrong(error.to_string())
    }
}

impl From<SinkError> for Failure {
    fn from(error: SinkError) -> Self {
        Self::write(error.to_string())
    }
}
