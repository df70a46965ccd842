//! `bundle verify`.

use std::process::ExitCode;

use anyhow::Result;
use bundles::store::View;

use super::Directory;
use crate::verify::{How, Servers, print};
use crate::{output, text};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    directory: Directory,
    /// URL of a repository on a server, e.g. <http://stratum1.example.org/cvmfs/unpacked.cern.ch>; may be given several
    /// times. Without one, only the bundles themselves are checked
    #[arg(long, value_name = "URL")]
    repository: Vec<String>,
    #[command(flatten)]
    how: How,
}

pub(super) async fn run(args: Args) -> Result<ExitCode> {
    let servers = Servers::new(&args.repository, args.how)?;
    let view = View::open(&args.directory.store)?;
    let (mut chains, mut damaged) = (Vec::new(), Vec::new());
    view.each(|chain, found| match found {
        Ok(_) => chains.push(chain),
        Err(why) => damaged.push((chain, why)),
    })?;
    let mut right = damaged.is_empty();
    for (chain, why) in damaged {
        println!("{chain}: {}", text::line(&why.to_string()));
    }
    if args.repository.is_empty() {
        println!("{} bundles are whole", chains.len());
        return Ok(if right { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    for chain in chains {
        if let Some(stored) = view.by_chain(&chain)? {
            let faults = servers.verify(&stored.bundle).await?;
            output::print(|out| print(out, &stored.bundle, &faults))?;
            right &= faults.is_empty();
        }
    }
    Ok(if right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
