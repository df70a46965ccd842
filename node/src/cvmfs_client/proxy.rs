//! A proxy between the node and the servers of a repository.

/// Where a request is sent to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Proxy {
    /// To the server itself.
    Direct,
    /// To the HTTP proxy with this URL.
    Via(String),
}
