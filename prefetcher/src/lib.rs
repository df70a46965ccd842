//! Warms the CVMFS cache of a node from bundles.
//!
//! Modules in the order in which a request passes through them:
//!
//! 1. [`server`] accepts calls of the gRPC API on the Unix socket and over TCP; [`request`] checks a request and
//!    registers it, or joins it to a running one for the same image. [`daemon`] runs it.
//! 2. [`source`] looks up the image's bundle: in the daemon's own store, through the mounts of repositories, in registries.
//! 3. [`delivery`] decides what is missing and in which order it is fetched, as packs or object by object.
//! 4. [`fetch`] downloads and verifies, each object once at a time on the node: [`fetch::limits`], [`fetch::failover`],
//!    [`fetch::http`].
//! 5. [`cache`] gives verified objects a name in the cache of the CVMFS client, or has the client itself fetch them;
//!    [`mount`] opens files below a mount and has the kernel read them in advance.
//!
//! [`bundle_memory`] bounds what bundles take in memory. [`repository`] is what the daemon knows of each repository: found at the start from [`config`] and the CVMFS client's
//! configuration ([`node::cvmfs_client`]), and shown by `cvmfs-prefetchd check`. [`throttle`] reduces the load while clients
//! answer late, and [`metrics`] counts.
//!
//! Imports go down this list: no module imports one that it is imported by.
//!
//! Invariants: no byte gets a name in a cache before its hash and size were verified; no call waits for the
//! network or a mount; a hung mount, dead server or bad bundle ends one request and nothing else.

pub mod arguments;
pub mod bundle_memory;
pub mod cache;
pub mod config;
pub mod daemon;
pub mod delivery;
pub mod fetch;
pub mod metrics;
pub mod mount;
pub mod repository;
pub mod request;
pub mod server;
pub mod source;
pub mod throttle;
