//! `make bench-bundles`: how good, how small and how quick bundles are.

use std::process::ExitCode;

use testbed::{bundle_bench, namespace};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("testbed=info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .without_time()
        .with_target(false)
        .init();
    namespace::main(bundle_bench::run)
}
