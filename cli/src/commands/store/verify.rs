//! `store verify`: whether the bundles in the store are intact, and servers have their objects.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Result;
use bundles::store::View;

use super::directory::StoreArgs;
use crate::commands::bundle::verify::{self, CheckArgs, Servers};
use crate::failure;
use crate::json::{DamagedBundle, VerifiedStore};
use crate::output::Output;
use crate::text;

const EXAMPLES: &str = "\
Examples:
  Check that the bundles can be read:
    cvmfs-prefetch store verify

  Check also that a server has all their objects:
    cvmfs-prefetch store verify --repository http://stratum1.example.org/cvmfs/unpacked.cern.ch

Exit codes: 0 all bundles are intact and the servers have all objects, 1 something is damaged, missing or wrong, 2 the
check was not possible, or wrong usage
";

/// Check that the bundles in the store are intact, and that servers have their objects
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Verify {
    /// URL of a repository on a server; may be repeated [default: check the bundles only]
    #[arg(long, value_name = "URL")]
    repository: Vec<String>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    directory: StoreArgs,
    #[command(flatten)]
    check: CheckArgs,
}

impl Verify {
    pub(crate) async fn run(self, out: &mut Output) -> Result<ExitCode> {
        let servers = Servers::new(&self.repository, self.check)?;
        let view = View::open(&self.directory.store)?;
        let (mut intact, mut damaged) = (Vec::new(), Vec::new());
        view.each(|chain_id, found| match found {
            Ok(_) => intact.push(chain_id),
            Err(error) => {
                damaged.push(DamagedBundle { chain_id: chain_id.to_string(), error: failure::causes(&error.into()) })
            }
        })?;
        let mut verified = Vec::new();
        if !self.repository.is_empty() {
            for chain_id in &intact {
                if let Some(stored) = view.by_chain(chain_id)? {
                    verified.push(servers.verify(&stored.bundle).await?);
                }
            }
        }
        let report = VerifiedStore { intact_bundles: intact.len(), damaged, verified };
        let passed = report.damaged.is_empty() && report.verified.iter().all(|bundle| bundle.faults.is_empty());
        out.verdict(self.json, &report, print, passed)
    }
}

fn print(out: &mut impl Write, report: &VerifiedStore) -> io::Result<()> {
    for DamagedBundle { chain_id, error } in &report.damaged {
        writeln!(out, "{chain_id}: damaged: {}", text::line(error))?;
    }
    writeln!(out, "{} bundles are intact, {} damaged", report.intact_bundles, report.damaged.len())?;
    report.verified.iter().try_for_each(|bundle| verify::print(out, bundle))
}
