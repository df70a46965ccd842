//! The built snapshotter, called over its socket as containerd does. Needs root, because snapshots are mounted.
#![allow(clippy::unwrap_used)]

mod admin;
mod chain_ids;
mod contract;
mod contract_files;
mod crash;
mod crowd;
mod dead_mounts;
mod hostile;
mod layers;
mod lifecycle;
mod mounted;
mod process;
mod service;
mod steps;
mod versions;
