//! What `record` and `watch` share: when a recording ends, what goes into the trace, where the trace is written.

pub(crate) mod attach;
pub(crate) mod interrupt;
pub(crate) mod options;
pub(crate) mod output;
pub(crate) mod runtime;
pub(crate) mod summary;
pub(crate) mod until;
