//! Limits of fetching, one file for each. [`Fetcher`](super::Fetcher) says in which order they are taken.

pub mod bandwidth;
pub mod concurrency;
pub mod cpu;
pub mod per_proxy;
pub mod per_request;
pub mod token_bucket;
