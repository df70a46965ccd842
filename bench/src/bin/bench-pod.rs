//! `make bench-pod`: pods through CRI, in several modes.

use std::process::ExitCode;

use bench::pod_bench;
use clap::Parser;
use testbed::{log, namespace};

fn main() -> ExitCode {
    let options = pod_bench::Options::parse();
    log::start();
    namespace::main(move || pod_bench::run(options))
}
