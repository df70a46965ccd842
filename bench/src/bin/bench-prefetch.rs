//! `make bench-prefetch`: how quick the daemon is.

use std::process::ExitCode;

use bench::prefetch_bench;
use clap::Parser;
use testbed::{log, namespace};

fn main() -> ExitCode {
    let options = prefetch_bench::Options::parse();
    log::start();
    namespace::main(move || prefetch_bench::run(options))
}
