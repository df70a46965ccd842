//! A use of a path that is no regular file.

use serde::Serialize;

use super::Process;
use crate::path::RootPath;

/// The first time at which a path was looked for in vain, or a directory was listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, bincode::Encode, bincode::Decode)]
pub struct Lookup {
    /// The path, seen from inside the container.
    pub path: RootPath,
    /// Microseconds from time zero.
    pub at_us: u64,
    /// Who did it.
    pub process: Process,
}
