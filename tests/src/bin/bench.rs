//! `make bench`: the paper's evaluation, repeated and extended.

use std::process::ExitCode;

use clap::Parser;
use testbed::{evaluation, log, namespace};

fn main() -> ExitCode {
    let options = evaluation::Options::parse();
    log::start();
    namespace::main(move || evaluation::run(options))
}
