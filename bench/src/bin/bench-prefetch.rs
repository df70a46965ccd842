//! `make bench-prefetch`: how fast the prefetch daemon fills a cache.

use std::process::ExitCode;

use bench::prefetch_bench;
use clap::Parser;
use testbed::{log, namespace};

fn main() -> ExitCode {
    let options = prefetch_bench::Options::parse();
    log::start();
    namespace::main(move || prefetch_bench::run(options))
}
