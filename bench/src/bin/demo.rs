//! `make demo`: a first start on an empty cache, the recording, the bundle, a start with prefetch, a warm start.

use std::process::ExitCode;

use bench::demo;
use testbed::{log, namespace};

fn main() -> ExitCode {
    log::start();
    namespace::main(demo::run)
}
