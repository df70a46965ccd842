//! Failover between proxies and servers, and retries.
//!
//! [`Upstream`] says which servers and proxies a repository has, [`Routes`] which of them work at the moment. A fetch uses
//! them through [`Retry`], which tries one [`Way`] after the other ([`Round`]), and all of them again after a pause.

mod retry;
mod round;
mod routes;
mod upstream;

pub(in crate::fetch) use retry::{Retry, Turn};
pub use round::Round;
pub use routes::{Routes, Way};
pub use upstream::Upstream;
