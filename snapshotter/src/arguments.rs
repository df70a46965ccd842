//! The command line of `cvmfs-prefetch-snapshotter`.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use node::cvmfs_client::parameters::STOCK_ROOT;
use node::paths;

use crate::containerd;

/// containerd snapshotter that takes image layers from CVMFS and requests their prefetch.
///
/// Without a command, it serves containerd until it gets SIGTERM or SIGINT.
#[derive(Debug, Parser)]
#[command(name = "cvmfs-prefetch-snapshotter", version, after_help = EXAMPLES)]
pub struct Arguments {
    /// Configuration file.
    #[arg(long, global = true, value_name = "FILE", default_value = paths::SNAPSHOTTER_CONFIG, env = "CVMFS_PREFETCH_SNAPSHOTTER_CONFIG")]
    pub config: PathBuf,
    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,
}

const EXAMPLES: &str = "\
Examples:
  cvmfs-prefetch-snapshotter config containerd --major 2   Print the lines for containerd's configuration
  cvmfs-prefetch-snapshotter check                         Check this node's setup
";

/// Commands; without one, the snapshotter serves.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check this node's setup and print what to change.
    ///
    /// Checks containerd's configuration, the socket, the mount of each repository, overlayfs on it, the file systems of the
    /// CVMFS client's cache and of the root, and the prefetch daemon. Exits with code 1 if a check fails.
    Check {
        /// containerd's configuration file.
        #[arg(long, value_name = "FILE", default_value = containerd::PATH)]
        containerd_config: PathBuf,
        /// Directory of the CVMFS client's configuration.
        #[arg(long, value_name = "DIRECTORY", default_value = STOCK_ROOT)]
        client_config: PathBuf,
        /// Print JSON: an array of objects with `subject`, `ok` and `message`.
        #[arg(long)]
        json: bool,
    },
    /// Print configurations.
    #[command(subcommand)]
    Config(Show),
}

/// Configurations to print.
#[derive(Debug, Subcommand)]
pub enum Show {
    /// Print the configuration in use, with defaults.
    Dump,
    /// Print what containerd's configuration needs.
    Containerd {
        /// containerd's major version.
        #[arg(long, value_name = "VERSION", default_value_t = 2)]
        major: u32,
    },
}
