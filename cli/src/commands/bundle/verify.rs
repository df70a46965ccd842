//! `bundle verify`: whether servers have the objects of a bundle.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use bundles::bundle::Bundle;
use bundles::cvmfs::Server;
use bundles::report::display_path;
use bundles::verify::{Depth, verify};

use crate::failure;
use crate::json::{ObjectFault, VerifiedBundle};
use crate::output::Output;
use crate::text;

const EXAMPLES: &str = "\
Examples:
  Check that a server has every object, by size:
    cvmfs-prefetch bundle verify root.bundle --repository http://stratum1.example.org/cvmfs/unpacked.cern.ch

  Fetch every object and check its content:
    cvmfs-prefetch bundle verify root.bundle --content \\
      --repository http://stratum1.example.org/cvmfs/unpacked.cern.ch

Exit codes: 0 the servers have all objects, 1 an object is missing or wrong, 2 the check was not possible, or wrong usage
";

/// Check that servers have every object of a bundle
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Verify {
    /// Bundle
    bundle: PathBuf,
    /// URL of a repository on a server; repeat it for each repository that the bundle names
    ///
    /// For example http://stratum1.example.org/cvmfs/unpacked.cern.ch. The last part of the URL is the repository's name.
    #[arg(long, value_name = "URL", required = true)]
    repository: Vec<String>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    check: CheckArgs,
}

/// How to check the objects; `store verify` has these flags, too.
#[derive(clap::Args)]
#[command(next_help_heading = "Check")]
pub(crate) struct CheckArgs {
    /// HTTP proxy for the repositories, e.g. http://squid.example.org:3128 [default: none]
    #[arg(long, value_name = "URL")]
    proxy: Option<String>,
    /// Fetch every object and check its content, instead of its size only
    #[arg(long)]
    content: bool,
    /// Number of objects to check at the same time
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    connections: u16,
}

impl Verify {
    pub(crate) async fn run(self, out: &mut Output) -> Result<ExitCode> {
        let bundle = Bundle::read(&self.bundle)?;
        let report = Servers::new(&self.repository, self.check)?.verify(&bundle).await?;
        let passed = report.faults.is_empty();
        out.verdict(self.json, &report, print, passed)
    }
}

/// The servers of repositories, by the repository's name.
pub(crate) struct Servers {
    servers: HashMap<String, Server>,
    check: CheckArgs,
}

impl Servers {
    pub(crate) fn new(urls: &[String], check: CheckArgs) -> Result<Self> {
        let mut servers = HashMap::new();
        for url in urls {
            let name = url.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
            servers.insert(name.to_owned(), Server::new(url, check.proxy.as_deref())?);
        }
        Ok(Self { servers, check })
    }

    /// Checks the objects of `bundle`. A repository without a server is an error: its objects would pass unchecked.
    pub(crate) async fn verify(&self, bundle: &Bundle) -> Result<VerifiedBundle> {
        if let Some(name) = bundle.repositories.iter().find(|name| !self.servers.contains_key(*name)) {
            bail!("the bundle has objects of {name}: give its URL, which ends in /{name}, with --repository");
        }
        let depth = if self.check.content { Depth::Content } else { Depth::Size };
        let connections = usize::from(self.check.connections);
        let faults = verify(bundle, |name| self.servers.get(name), depth, connections).await;
        let describe = |fault: bundles::verify::Fault| {
            let object = bundle.object(fault.object);
            ObjectFault {
                object: object.hash.to_string(),
                path: display_path(bundle, object).to_string(),
                error: failure::causes(&fault.error.into()),
            }
        };
        Ok(VerifiedBundle {
            image: (&bundle.image).into(),
            objects: bundle.objects.len(),
            faults: faults.into_iter().map(describe).collect(),
        })
    }
}

/// A line in total, then a line per fault.
pub(crate) fn print(out: &mut impl Write, report: &VerifiedBundle) -> io::Result<()> {
    let VerifiedBundle { image, objects, faults } = report;
    match faults.len() {
        0 => writeln!(out, "{}: {objects} objects, all correct", image.chain_id)?,
        count => writeln!(out, "{}: {objects} objects, {count} missing or wrong", image.chain_id)?,
    }
    faults.iter().try_for_each(|fault| writeln!(out, "  {}: {}", text::line(&fault.path), fault.error))
}
