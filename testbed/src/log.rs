//! Logging of the testbed's programs to standard error.

use tracing_subscriber::EnvFilter;

/// Initialises logging of this process; `RUST_LOG` selects what is logged.
pub fn start() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("testbed=info,bench=info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    log.without_time().with_target(false).init();
}
