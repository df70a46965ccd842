//! `cancel`: end a request of the daemon.

use std::process::ExitCode;

use anyhow::Result;

use crate::daemon_args::DaemonArgs;
use crate::json::Request;
use crate::output::Output;
use crate::request;

const EXAMPLES: &str = "\
Examples:
  Cancel request 17:
    cvmfs-prefetch cancel 17
";

/// Cancel a request of the prefetch daemon
///
/// Ends the request for everybody who joined it. Objects that are in the cache stay there.
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Cancel {
    /// Number of the request
    request: u64,
    /// Print the request as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: DaemonArgs,
}

impl Cancel {
    pub(crate) async fn run(self, out: &mut Output) -> Result<ExitCode> {
        let status = self.daemon.client().cancel(self.request).await?;
        out.report(self.json, &Request::from(&status), request::print)?;
        Ok(ExitCode::SUCCESS)
    }
}
