//! Failover between proxies and servers, and retries.
//!
//! [`Upstream`] says which servers and proxies a repository has, [`Routes`] which of them work at the moment. A fetch uses
//! them through [`Retry`], which tries one [`Route`] after the other ([`Round`]), and all of them again after a pause.

mod retry;
mod round;
mod routes;
mod upstream;

pub(in crate::fetch) use retry::{Retry, Try};
pub use round::Round;
pub use routes::{Route, Routes};
pub use upstream::Upstream;
