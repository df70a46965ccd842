//! The parsers under test. They are included by path, so that the fuzzer need not build the whole crate with RocksDB.

#[path = "../../src/snapshots/filter/mod.rs"]
pub mod filter;
