//! Requests to the prefetch daemon, and whether a container waits for them.

pub mod client;
pub mod wait_policy;
