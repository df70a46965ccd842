//! `make bench-snapshotter`: latency of the snapshotter's calls.

use std::process::ExitCode;

use bench::snapshotter_bench;
use clap::Parser;
use testbed::{log, namespace};

fn main() -> ExitCode {
    let options = snapshotter_bench::Options::parse();
    log::start();
    namespace::main(move || snapshotter_bench::run(options))
}
