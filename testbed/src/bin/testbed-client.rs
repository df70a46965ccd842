//! Serves one mount of a CVMFS repository; see [`testbed::client`].

use clap::Parser;
use testbed::client::{ServeOptions, serve};

fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_ansi(false).with_writer(std::io::stderr).init();
    serve(&ServeOptions::parse())
}
