//! `make bench-bundles`: quality, size and build time of bundles.

use std::process::ExitCode;

use bench::bundle_bench;
use testbed::{log, namespace};

fn main() -> ExitCode {
    log::start();
    namespace::main(bundle_bench::run)
}
