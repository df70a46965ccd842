//! The end-to-end tests: each against a running site, or against what the real CVMFS server wrote.
//!
//! They count requests and compare contents; none asserts a time.

mod bad_bundles;
mod builder;
mod chain;
mod chain_ids;
mod daemon_alone;
mod daemon_faults;
mod dead_client;
mod half_published;
mod host;
mod nasty;
mod publisher;
mod publishing;
mod reader;
mod record;
mod record_fanotify;
mod record_running;
mod record_until;
mod restart;
mod support;
mod tree;
mod user_namespaces;
mod waits;
mod watch_restart;
mod watch_service;
mod whiteouts;
