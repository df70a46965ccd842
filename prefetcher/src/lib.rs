//! Warms the CVMFS cache of a node from bundles.
//!
//! What happens to one request, and where to read about it:
//!
//! 1. [`service`] takes it from the Unix socket ([`socket`]) or over TCP ([`listen`]) in the terms of [`api`]; [`asked`]
//!    checks it; [`requests`] notes it, or finds that the same image is being prefetched already.
//! 2. [`source`] looks for the image's bundle: in the daemon's own store, then through the repositories' mounts.
//! 3. [`plan`] leaves out what is in the cache; [`fetch`] brings the rest over HTTP, each object once at a time on the
//!    node, and checks it.
//! 4. [`sink`] gives checked objects a name in the cache of the CVMFS client, or has the client itself fetch them;
//!    [`page_cache`] has the kernel read them.
//!
//! [`daemon`] ties these together. What a repository is served with is found at the start: [`settings`] puts [`config`] over
//! the configuration of the node's [`cvmfs_client`]; [`check`] shows it. [`client`] is for those who ask.
//! [`metrics`] and [`logging`] tell what happens.
//!
//! Invariants: no byte gets a name in a cache before its hash and size were found right; no caller ever waits for the
//! network or a mount; a hung mount, dead server or bad bundle ends one request and nothing else.

pub mod api;
pub mod asked;
pub mod beneath;
pub mod check;
pub mod client;
pub mod config;
pub mod cvmfs_client;
pub mod daemon;
pub mod fetch;
pub mod listen;
pub mod logging;
pub mod metrics;
pub mod page_cache;
pub mod plan;
pub mod repository;
pub mod requests;
pub mod service;
pub mod settings;
pub mod sink;
pub mod socket;
pub mod source;
pub mod upstream;
pub mod wanted;
