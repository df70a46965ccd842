//! The built plugin, driven over its socket as containerd does. Needs root, because snapshots are really mounted.
#![allow(clippy::unwrap_used)]

mod layers;
mod lifecycle;
mod plugin;
