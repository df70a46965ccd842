//! The gRPC API of the prefetch daemon: what the snapshotter, the command line and the daemon itself share.
//!
//! - [`proto`]: messages and service, generated from `proto/prefetch.proto`, where the API is specified.
//! - [`client`]: a client for the daemon's Unix socket. Every call ends within its timeout.
//! - [`limits`]: values that the daemon refuses, for clients that want to refuse them first.

pub mod client;
pub mod limits;
pub mod proto;
