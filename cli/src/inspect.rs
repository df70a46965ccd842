//! `inspect`: what is in a bundle or a trace.

mod summary;
mod table;
mod tree;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use bundles::bundle::{self, Bundle};
use bundles::trace::{self, Trace};

use crate::output;
use crate::trace::show;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A bundle or a trace
    file: PathBuf,
    #[command(flatten)]
    form: Form,
}

/// How a bundle is printed; by default in figures.
#[derive(clap::Args)]
pub(crate) struct Form {
    /// Print the directories of a bundle
    #[arg(long, group = "form")]
    tree: bool,
    /// Print every object of a bundle
    #[arg(long, group = "form")]
    table: bool,
    /// Print all there is as JSON
    #[arg(long, group = "form")]
    json: bool,
    /// How many directories deep the tree is
    #[arg(long, value_name = "N", default_value_t = 3, requires = "tree")]
    depth: u8,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    match Kind::of(&args.file)? {
        Kind::Trace if args.form.tree => bail!("{} is a trace: --tree is for bundles", args.file.display()),
        Kind::Trace => show::show(&Trace::read(&args.file)?, args.form.json),
        Kind::Bundle => print(&Bundle::read(&args.file)?, &args.form),
    }
}

/// Prints a bundle; `bundle show` does the same.
pub(crate) fn print(bundle: &Bundle, form: &Form) -> Result<ExitCode> {
    output::print(|out| match form {
        Form { json: true, .. } => output::json(out, bundle),
        Form { table: true, .. } => table::print(out, bundle),
        Form { tree: true, depth, .. } => tree::print(out, bundle, usize::from(*depth)),
        _ => summary::print(out, bundle),
    })
}

/// What a file is, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Bundle,
    Trace,
}

impl Kind {
    pub(crate) fn of(path: &Path) -> Result<Self> {
        let mut start = [0; 4];
        let mut file = std::fs::File::open(path).with_context(|| path.display().to_string())?;
        match std::io::Read::read_exact(&mut file, &mut start) {
            Ok(()) if start == trace::FORMAT.magic => Ok(Self::Trace),
            Ok(()) if start == bundle::FORMAT.magic => Ok(Self::Bundle),
            Ok(()) => bail!("{} is neither a bundle nor a trace", path.display()),
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
                bail!("{} is neither a bundle nor a trace: it has less than 4 bytes", path.display())
            }
            Err(e) => Err(e).with_context(|| path.display().to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_told_by_its_first_bytes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        for (content, kind) in [(b"CPFB....".as_slice(), Some(Kind::Bundle)), (b"#!/bin/sh", None), (b"CP", None)] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(Kind::of(&path).ok(), kind, "{content:?}");
        }
        std::fs::write(&path, trace::FORMAT.magic).unwrap();
        assert_eq!(Kind::of(&path).unwrap(), Kind::Trace);
        assert!(Kind::of(&directory.path().join("none")).unwrap_err().to_string().contains("none"));
    }
}
