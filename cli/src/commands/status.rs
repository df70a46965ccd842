//! `status`: the requests of the daemon.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;

use crate::daemon_args::DaemonArgs;
use crate::json::{DaemonStatus, Request};
use crate::output::Output;
use crate::request;

const EXAMPLES: &str = "\
Examples:
  Show all requests that the daemon remembers:
    cvmfs-prefetch status

  Follow request 17 until it ends:
    cvmfs-prefetch status 17 --watch

Exit codes: 0 the status was printed, 1 the daemon does not answer or does not know the request, 2 wrong usage; with
--watch as those of `prefetch`
";

/// Show the requests of the prefetch daemon
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Status {
    /// Number of a request [default: all]
    request: Option<u64>,
    /// Show the progress of the request until it ends
    #[arg(long, requires = "request")]
    watch: bool,
    /// Print the status as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: DaemonArgs,
}

impl Status {
    pub(crate) async fn run(self, out: &mut Output) -> Result<ExitCode> {
        let client = self.daemon.client();
        let Some(id) = self.request else {
            let list = client.list().await?;
            let report = DaemonStatus {
                requests: list.requests.iter().map(Request::from).collect(),
                stored_bundles: list.bundles.len(),
                damaged_bundles: list.damaged_bundles,
            };
            out.report(self.json, &report, print)?;
            return Ok(ExitCode::SUCCESS);
        };
        let status = if self.watch {
            request::follow(&client, id, Duration::MAX, out.notes()).await?
        } else {
            client.status(id).await?
        };
        out.report(self.json, &Request::from(&status), request::print)?;
        Ok(if self.watch { request::exit_code(status.state()) } else { ExitCode::SUCCESS })
    }
}

fn print(out: &mut impl Write, report: &DaemonStatus) -> io::Result<()> {
    writeln!(out, "requests: {}", report.requests.len())?;
    report.requests.iter().try_for_each(|request| request::print(out, request))?;
    writeln!(out, "bundles in the store: {} (see `cvmfs-prefetch store list`)", report.stored_bundles)?;
    if report.damaged_bundles > 0 {
        writeln!(out, "damaged bundles found and removed: {}", report.damaged_bundles)?;
    }
    Ok(())
}
