//! A containerd proxy snapshotter whose layers come from CVMFS.
//!
//! What happens to a call of containerd, and where to read about it:
//!
//! 1. [`server`] listens on the Unix socket; [`service`] answers the calls and has the order of things; [`chain`] tells it what a
//!    call is for.
//! 2. [`layers`] finds out whether a layer is in one of the mounted repositories, within a deadline; [`whiteouts`] makes
//!    up for the one thing a published layer cannot say by itself: what it deletes.
//! 3. [`state`] holds the rules of snapshots (keys, parents, kinds, error codes); [`store`] keeps them on disk;
//!    [`directories`] is the layout of everything else below the root.
//!    [`labels`] are limited as containerd's, and two of them ask for what [`idmap`] can only check.
//! 4. [`overlay`] says how a snapshot is mounted. This program mounts nothing itself: containerd does.
//! 5. [`hint`] tells the prefetch daemon which image is about to run, and never waits.
//!
//! Invariants: what was answered survives a crash; a layer that cannot be had from CVMFS for any reason is unpacked as
//! by containerd's own snapshotter; no call waits longer for CVMFS than its deadline, nor at all for the daemon.

pub mod chain;
pub mod check;
pub mod config;
pub mod containerd;
pub mod counters;
pub mod directories;
pub mod error;
pub mod filter;
pub mod hint;
pub mod idmap;
pub mod labels;
pub mod layers;
pub mod metrics;
pub mod overlay;
pub mod server;
pub mod service;
pub mod snapshot;
pub mod state;
pub mod store;
pub mod usage;
pub mod wait;
pub mod whiteouts;
