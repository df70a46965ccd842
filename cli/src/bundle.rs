//! `bundle`: the bundles in a node's store.
//!
//! What only reads (`list`, `show`, `export`, `verify`) works beside a running daemon; what changes the store (`rm`,
//! `import`) needs it to be stopped.

mod change;
mod list;
mod read;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use bundles::bundle::Bundle;
use bundles::store::View;

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// List the bundles
    List(list::Args),
    /// Print a bundle, as `inspect` does
    Show(read::ShowArgs),
    /// Remove bundles; the daemon must be stopped
    Rm(change::RmArgs),
    /// Write a bundle to a file
    Export(read::ExportArgs),
    /// Put bundle files into the store; the daemon must be stopped
    Import(change::ImportArgs),
    /// Check that bundles are whole, and that servers have their objects
    Verify(verify::Args),
}

/// Where the bundles are.
#[derive(clap::Args)]
pub(crate) struct Directory {
    /// Directory of the store
    #[arg(long, value_name = "DIR", default_value = node::paths::PREFETCHD_STORE)]
    store: PathBuf,
}

pub(crate) async fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::List(args) => list::run(&args),
        Command::Show(args) => read::show(&args),
        Command::Rm(args) => change::rm(&args),
        Command::Export(args) => read::export(&args),
        Command::Import(args) => change::import(&args),
        Command::Verify(args) => verify::run(args).await,
    }
}

/// The one bundle that a person means by `name`: its image's chain ID, manifest digest, either's first digits, or
/// reference.
fn find(view: &View, name: &str) -> Result<Bundle> {
    let mut found = Vec::new();
    view.each(|_, stored| {
        if let Ok(stored) = stored
            && is_meant(&stored.bundle, name)
        {
            found.push(stored.bundle);
        }
    })?;
    match found.len() {
        0 => bail!("the store has no (undamaged) bundle {name:?}: see `cvmfs-prefetch bundle list`"),
        1 => Ok(found.remove(0)),
        many => bail!("{name:?} may be any of {many} bundles: give more digits of the chain ID"),
    }
}

fn is_meant(bundle: &Bundle, name: &str) -> bool {
    let image = &bundle.image;
    let digits = name.strip_prefix("sha256:").unwrap_or(name);
    let begins = |hex: String| digits.len() >= 4 && hex.starts_with(digits);
    image.reference == name || begins(image.chain_id.0.hex()) || image.manifest.is_some_and(|m| begins(m.hex()))
}
