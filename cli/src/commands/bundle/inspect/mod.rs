//! `bundle inspect`: the contents of a bundle.

mod figures;
mod table;
mod tree;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use bundles::bundle::Bundle;

use crate::file_kind::FileKind;
use crate::output::{Output, write_json};

const EXAMPLES: &str = "\
Examples:
  Show figures by repository, phase, kind, profile and directory:
    cvmfs-prefetch bundle inspect root.bundle

  Show the directories, two levels deep:
    cvmfs-prefetch bundle inspect root.bundle --tree --depth 2

  List the ten largest objects:
    cvmfs-prefetch bundle inspect root.bundle --json | jq '.objects | sort_by(-.raw_size)[:10]'
";

/// Show the contents of a bundle
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Inspect {
    /// Bundle
    bundle: PathBuf,
    #[command(flatten)]
    form: Form,
}

/// How a bundle is printed. `store show` has these flags, too.
#[derive(clap::Args)]
#[command(next_help_heading = "Form (default: figures)")]
pub(crate) struct Form {
    /// Print the directories
    #[arg(long, group = "form")]
    tree: bool,
    /// Print every object, in order of expected need
    #[arg(long, group = "form")]
    table: bool,
    /// Print the bundle as JSON
    #[arg(long, group = "form")]
    json: bool,
    /// Depth of the tree
    #[arg(long, value_name = "N", default_value_t = 3, requires = "tree")]
    depth: u8,
}

impl Inspect {
    pub(crate) async fn run(self, out: &mut Output) -> Result<ExitCode> {
        if FileKind::read(&self.bundle)? == FileKind::Trace {
            let file = self.bundle.display();
            bail!("{file} is a trace, not a bundle: show it with `cvmfs-prefetch trace show {file}`");
        }
        print(out, &Bundle::read(&self.bundle)?, &self.form)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Prints a bundle.
pub(crate) fn print(out: &mut Output, bundle: &Bundle, form: &Form) -> Result<()> {
    out.print(|out| match form {
        Form { json: true, .. } => write_json(out, bundle),
        Form { table: true, .. } => table::print(out, bundle),
        Form { tree: true, depth, .. } => tree::print(out, bundle, usize::from(*depth)),
        _ => figures::print(out, bundle),
    })
}
