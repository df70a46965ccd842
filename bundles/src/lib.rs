//! The vocabulary of cvmfs-prefetch, and everything that is about bundles but not about a node.
//!
//! How the data flows through this crate:
//!
//! 1. A recorder writes a [`trace::Trace`]: the files one container used, in order of first use.
//! 2. [`image`] asks the registry which layers and which chain ID an image has.
//! 3. [`cvmfs`] reads the repository's signed catalogs, which tell the objects behind each path.
//! 4. [`builder`] turns traces, image and catalogs into a [`bundle::Bundle`].
//! 5. [`pack`] puts its small objects together, so that few requests bring them.
//! 6. [`publish`] puts the bundle beside the image, into the repository's tree or the registry; [`export`] tells other
//!    prefetchers what is in it; [`store`] keeps it on a node.
//! 7. [`report`] tells people what is in it, and [`verify`] whether a server has that.
//!
//! Everything written to disk goes through [`codec`].

pub mod builder;
pub mod bundle;
pub mod codec;
pub mod cvmfs;
pub mod export;
pub mod file;
pub mod image;
pub mod object;
pub mod pack;
pub mod path;
pub mod publish;
pub mod report;
#[cfg(feature = "store")]
pub mod store;
pub mod trace;
pub mod verify;
