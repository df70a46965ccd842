//! `make demo`: a first start on an empty cache, the recording, the bundle, a start with prefetch, a warm start.

use std::process::ExitCode;

use testbed::{demo, namespace};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("testbed=info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .without_time()
        .with_target(false)
        .init();
    namespace::main(demo::run)
}
