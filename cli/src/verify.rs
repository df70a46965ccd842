//! `verify`: whether servers have what a bundle names.
//!
//! Exit code 0: they have. 1: something is missing or wrong. 2: it could not be checked.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use bundles::bundle::Bundle;
use bundles::cvmfs::Server;
use bundles::report::display_path;
use bundles::verify::{Depth, Fault, verify};

use crate::{output, text};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A bundle
    bundle: PathBuf,
    /// URL of a repository on a server, e.g. <http://stratum1.example.org/cvmfs/unpacked.cern.ch>; may be given several
    /// times, once for each repository that the bundle names
    #[arg(long, value_name = "URL", required = true)]
    repository: Vec<String>,
    #[command(flatten)]
    how: How,
}

/// How to check.
#[derive(clap::Args)]
pub(crate) struct How {
    /// HTTP proxy for the repositories, e.g. <http://squid.example.org:3128>; without it, direct
    #[arg(long, value_name = "URL")]
    proxy: Option<String>,
    /// Fetch every object and check its bytes, not only ask for its size
    #[arg(long)]
    content: bool,
    /// How many objects to ask for at a time
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    connections: u16,
}

pub(crate) async fn run(args: Args) -> Result<ExitCode> {
    let bundle = Bundle::read(&args.bundle)?;
    let servers = Servers::new(&args.repository, args.how)?;
    let faults = servers.verify(&bundle).await?;
    output::print(|out| print(out, &bundle, &faults))?;
    Ok(if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Where repositories are, by their names.
pub(crate) struct Servers {
    servers: HashMap<String, Server>,
    how: How,
}

impl Servers {
    /// The name of a repository is the last part of its URL.
    pub(crate) fn new(urls: &[String], how: How) -> Result<Self> {
        let mut servers = HashMap::new();
        for url in urls {
            let name = url.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
            servers.insert(name.to_owned(), Server::new(url, how.proxy.as_deref())?);
        }
        Ok(Self { servers, how })
    }

    /// What is wrong with the objects of `bundle`. That nobody could be asked for some of them is an error: they would pass
    /// for checked.
    pub(crate) async fn verify(&self, bundle: &Bundle) -> Result<Vec<Fault>> {
        if let Some(name) = bundle.repositories.iter().find(|name| !self.servers.contains_key(*name)) {
            bail!("the bundle names objects of {name}: give its URL, which ends in /{name}, with --repository");
        }
        let depth = if self.how.content { Depth::Content } else { Depth::Size };
        Ok(verify(bundle, |name| self.servers.get(name), depth, usize::from(self.how.connections)).await)
    }
}

/// A line in sum, then each fault.
pub(crate) fn print(out: &mut impl Write, bundle: &Bundle, faults: &[Fault]) -> io::Result<()> {
    let (chain, objects) = (bundle.image.chain_id, bundle.objects.len());
    match faults.len() {
        0 => writeln!(out, "{chain}: {objects} objects, all right")?,
        wrong => writeln!(out, "{chain}: {objects} objects, {wrong} wrong")?,
    }
    for Fault { object, error } in faults {
        let path = text::path(&display_path(bundle, bundle.object(*object)));
        writeln!(out, "  {path}: {error}")?;
    }
    Ok(())
}
