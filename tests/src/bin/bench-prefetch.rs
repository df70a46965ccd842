//! `make bench-prefetch`: how quick the daemon is.

use std::process::ExitCode;

use clap::Parser;
use testbed::{namespace, prefetch_bench};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let options = prefetch_bench::Options::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("testbed=info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .without_time()
        .with_target(false)
        .init();
    namespace::main(move || prefetch_bench::run(options))
}
