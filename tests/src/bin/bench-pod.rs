//! `make bench-pod`: pods through CRI, in several ways.

use std::process::ExitCode;

use clap::Parser;
use testbed::{log, namespace, pod_bench};

fn main() -> ExitCode {
    let options = pod_bench::Options::parse();
    log::start();
    namespace::main(move || pod_bench::run(options))
}
