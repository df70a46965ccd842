//! Tests of the site's parts that everything else stands on: namespaces, the web, the FUSE client.
#![allow(clippy::unwrap_used)]

mod client;
mod fixture;
mod namespace;
mod overlay;
mod registry;
mod web;
