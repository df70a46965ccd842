//! The program `cvmfs-prefetch`, run as a user runs it.

#![allow(clippy::unwrap_used)]

mod bundles;
mod closed_stdout;
mod daemon;
mod errors;
mod generated;
mod support;
mod traces;
