//! `make bench-bundles`: how good, how small and how quick bundles are.

use std::process::ExitCode;

use bench::bundle_bench;
use testbed::{log, namespace};

fn main() -> ExitCode {
    log::start();
    namespace::main(bundle_bench::run)
}
