//! A containerd snapshotter that takes layers from CVMFS.
//!
//! The modules in the order in which a call of containerd passes them:
//!
//! 1. [`server`] listens on the Unix socket; [`service`] answers the calls.
//! 2. [`prepare`] decides how a Prepare or View is answered and creates the snapshot.
//! 3. [`layers`] looks up layers in the mounted repositories, within a timeout; [`whiteouts`] makes up for the one thing that
//!    a published layer cannot express: what it deletes.
//! 4. [`prefetch`] requests the image from the prefetch daemon. Nothing waits for it unless configured.
//! 5. [`snapshots`] holds the rules of snapshots (keys, parents, kinds) and their database; [`root`] keeps database and
//!    directories consistent; [`idmap`] checks containers in user namespaces.
//! 6. [`overlay`] returns the mounts of a snapshot. This program mounts nothing itself: containerd does.
//!
//! [`config`], [`metrics`] and [`error`] are used by all of these; [`check`] and [`containerd`] are for `check` and `config
//! containerd` on the command line; [`tree`] reads directory trees.
//!
//! # Invariants
//!
//! - What was answered survives a crash.
//! - A layer that cannot be taken from CVMFS for any reason is unpacked, as by containerd's own snapshotter.
//! - No call waits for CVMFS longer than `lookup_timeout`, nor for the prefetch daemon longer than `max_wait`.

pub mod arguments;
pub mod check;
pub mod config;
pub mod containerd;
pub mod error;
pub mod idmap;
pub mod layers;
pub mod metrics;
pub mod overlay;
pub mod prefetch;
pub mod prepare;
pub mod root;
pub mod server;
pub mod service;
pub mod snapshots;
#[cfg(test)]
mod test_trees;
pub mod tree;
pub mod whiteouts;
