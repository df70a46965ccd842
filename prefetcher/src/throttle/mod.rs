//! Throttling: the daemon reduces its load while CVMFS clients answer late, so that running containers come first.
//!
//! [`Throttle`] measures how soon clients answer, [`policy`] decides what follows.

mod policy;
mod probe;

pub use probe::Throttle;
