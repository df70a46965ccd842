//! The command line of `cvmfs-prefetchd`.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use node::paths;

/// Fetch objects of images into the CVMFS cache of this node
///
/// Without a command, it serves requests until it gets SIGTERM or SIGINT.
#[derive(Debug, Parser)]
#[command(name = "cvmfs-prefetchd", version)]
pub struct Arguments {
    /// Configuration file
    #[arg(long, global = true, value_name = "FILE", env = "CVMFS_PREFETCHD_CONFIG", default_value = paths::PREFETCHD_CONFIG)]
    pub config: PathBuf,
    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Commands; without one, the daemon serves.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show where the objects of each repository come from and go, and why
    ///
    /// Exits with 1 if a repository cannot be served.
    Check {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}
