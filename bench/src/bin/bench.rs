//! `make bench`: the paper's evaluation, repeated and extended.

use std::process::ExitCode;

use bench::evaluation;
use clap::Parser;
use testbed::{log, namespace};

fn main() -> ExitCode {
    let options = evaluation::Options::parse();
    log::start();
    namespace::main(move || evaluation::run(options))
}
