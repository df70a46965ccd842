//! The parsers under test. They are included by path, so that the fuzzer does not build the whole crate.

#[path = "../../src/cvmfs_client/proxy.rs"]
pub mod proxy;
#[path = "../../src/cvmfs_client/shell.rs"]
pub mod shell;
#[path = "../../src/cvmfs_client/showconfig.rs"]
pub mod showconfig;
#[path = "../../src/cvmfs_client/transfer.rs"]
pub mod transfer;
#[path = "../../src/cvmfs_client/url.rs"]
pub mod url;
