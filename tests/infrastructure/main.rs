//! Tests of the testbed itself: namespaces, web, CVMFS client, registry, containerd, and what the recorder expects of runc.
#![allow(clippy::unwrap_used)]

mod client;
mod containerd;
mod fixture;
mod images;
mod namespace;
mod overlay;
mod registry;
mod runc;
mod web;
