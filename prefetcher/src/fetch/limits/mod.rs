//! Limits of downloads, one file for each. The module [`fetch`](super) lists the order in which they are acquired.

pub mod bandwidth;
pub mod concurrency;
pub mod cpu;
pub mod memory;
pub mod per_proxy;
pub mod per_request;
pub mod token_bucket;
