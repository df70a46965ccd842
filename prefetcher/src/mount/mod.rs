//! Access to files below a repository's mount.
//!
//! [`open`](open::open) opens what a bundle names and nothing outside of the mount; [`page_cache`] has the kernel read files in
//! advance.

pub mod open;
pub mod page_cache;
