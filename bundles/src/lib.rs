//! The vocabulary of cvmfs-prefetch, and everything about bundles that does not need a node.
//!
//! Data flows through this crate in this order:
//!
//! 1. A recorder writes a [`trace::Trace`]: the files one container used, in order of first use.
//! 2. [`registry`] reads an image's layers and chain ID ([`image`]) from its registry.
//! 3. [`cvmfs`] reads the repository's signed catalogs, which name the objects behind each path.
//! 4. [`builder`] makes a [`bundle::Bundle`] from traces, image and catalogs.
//! 5. [`pack`] groups small objects into packs, so that few requests fetch many objects.
//! 6. [`publish`] puts the bundle beside the image, into the repository or into the registry; [`export`] converts it for other
//!    prefetchers; [`store`] keeps it on a node.
//! 7. [`report`] summarizes and compares bundles, and [`verify`] checks that a server has their objects.
//!
//! [`codec`] encodes everything that is written to disk; [`attribute`], [`layout`], [`object`], [`path`] and [`phase`] are the terms
//! that all share.
//!
//! Features: `remote` is what connects to servers and registries, and what is built from their answers; `store` is the store of a
//! node. The snapshotter, which runs as root, needs neither.

pub mod attribute;
#[cfg(feature = "remote")]
pub mod builder;
pub mod bundle;
pub mod codec;
#[cfg(feature = "remote")]
pub mod cvmfs;
pub mod export;
pub mod file;
pub mod image;
pub mod layout;
pub mod object;
pub mod pack;
pub mod path;
pub mod phase;
#[cfg(feature = "remote")]
pub mod publish;
#[cfg(feature = "remote")]
pub mod registry;
pub mod report;
#[cfg(feature = "store")]
pub mod store;
pub mod trace;
#[cfg(feature = "remote")]
pub mod verify;
