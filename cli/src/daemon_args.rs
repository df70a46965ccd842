//! `--socket`: where the prefetch daemon is.

use std::path::PathBuf;

use api::client::Client;

#[derive(clap::Args)]
#[command(next_help_heading = "Daemon")]
pub(crate) struct DaemonArgs {
    /// Socket of cvmfs-prefetchd
    #[arg(long, value_name = "PATH", env = "CVMFS_PREFETCHD_SOCKET", default_value = node::paths::PREFETCHD_SOCKET)]
    socket: PathBuf,
}

impl DaemonArgs {
    pub(crate) fn client(&self) -> Client {
        Client::connect_lazy(&self.socket)
    }
}
