//! `make bench-bundles`: how good, how small and how quick bundles are.

use std::process::ExitCode;

use testbed::{bundle_bench, log, namespace};

fn main() -> ExitCode {
    log::start();
    namespace::main(bundle_bench::run)
}
