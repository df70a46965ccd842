//! `priority`: change the priority of a request of the daemon.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use api::proto::Priority;

use crate::daemon_args::DaemonArgs;
use crate::json::Request;
use crate::output::Output;
use crate::request::parse_priority;

const EXAMPLES: &str = "\
Examples:
  Fetch the objects of request 17 before those of other requests:
    cvmfs-prefetch priority 17 high
";

/// Raise or lower the priority of a request of the prefetch daemon
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct SetPriority {
    /// Number of the request
    request: u64,
    /// New priority: low, normal or high
    #[arg(value_parser = parse_priority)]
    priority: Priority,
    /// Print the request as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: DaemonArgs,
}

impl SetPriority {
    pub(crate) async fn run(self, out: &mut Output) -> Result<ExitCode> {
        let status = self.daemon.client().set_priority(self.request, self.priority).await?;
        out.report(self.json, &Request::from(&status), |out, request| {
            writeln!(out, "request {}: {}, priority {}", request.request_id, request.state, request.priority)
        })?;
        Ok(ExitCode::SUCCESS)
    }
}
