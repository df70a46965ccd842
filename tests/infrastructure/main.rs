//! Tests of the site's parts that everything else stands on: namespaces, the web, the FUSE client, runc.
#![allow(clippy::unwrap_used)]

mod client;
mod fixture;
mod namespace;
mod overlay;
mod registry;
mod runc;
mod web;
