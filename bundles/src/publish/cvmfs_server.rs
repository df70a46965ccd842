//! Publishing with `cvmfs_server`, in one transaction.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{PublishError, directory};
use crate::bundle::Bundle;
use crate::layout::{bundle_path, is_repository_name};
use crate::pack::PackFile;

/// Most bytes of a tool's output that an error quotes.
const MAX_OUTPUT: usize = 1_000;

/// `cvmfs_server` on this machine, which must be a publisher of the repository.
#[derive(Debug)]
pub struct CvmfsServer {
    /// Path or name of the program.
    pub program: OsString,
    /// Directory where repositories are mounted.
    pub mounts: PathBuf,
}

impl Default for CvmfsServer {
    fn default() -> Self {
        Self { program: "cvmfs_server".into(), mounts: "/cvmfs".into() }
    }
}

impl CvmfsServer {
    /// Opens a transaction of `fqrn`, writes the tree of `bundle` and `packs`, publishes it, and returns the
    /// bundle's path. If anything fails after the transaction was opened, it is aborted. A transaction that
    /// was open before is left alone.
    pub fn publish(&self, bundle: &Bundle, fqrn: &str, packs: &[PathBuf]) -> Result<PathBuf, PublishError> {
        if !is_repository_name(fqrn) {
            return Err(PublishError::Fqrn(fqrn.to_owned()));
        }
        let packs = PackFile::open_all(packs)?;
        let mount = self.mounts.join(fqrn);
        self.run(&["transaction", fqrn], "nothing was changed")?;
        let published = self.write(bundle, &mount, fqrn, &packs);
        published.map_err(|error| match self.run(&["abort", "-f", fqrn], "nothing was published") {
            Ok(()) => error,
            Err(abort) => {
                PublishError::StillOpen { fqrn: fqrn.to_owned(), error: Box::new(error), abort: abort.to_string() }
            }
        })?;
        Ok(mount.join(bundle_path(&bundle.image.chain_id)))
    }

    fn write(&self, bundle: &Bundle, mount: &Path, fqrn: &str, packs: &[PackFile]) -> Result<(), PublishError> {
        directory::write(bundle, mount, packs)?;
        self.run(&["publish", fqrn], "nothing was published")
    }

    fn run(&self, arguments: &[&str], outcome: &'static str) -> Result<(), PublishError> {
        let program = self.program.to_string_lossy();
        let failed =
            |reason| PublishError::Server { command: format!("{program} {}", arguments.join(" ")), outcome, reason };
        // Not inside the repository, where an open working directory would block publishing.
        let output =
            Command::new(&self.program).args(arguments).current_dir("/").output().map_err(|e| match e.kind() {
                io::ErrorKind::NotFound => failed(
                    "it is not installed; run this on a publisher of the repository, or write a tar file for its \
                 `cvmfs_server ingest`"
                        .to_owned(),
                ),
                _ => failed(e.to_string()),
            })?;
        if output.status.success() {
            return Ok(());
        }
        let output_text = [output.stdout, output.stderr].concat();
        let output_text =
            String::from_utf8_lossy(&output_text[output_text.len().saturating_sub(MAX_OUTPUT)..]).trim().to_owned();
        Err(failed(format!("{}: {output_text}", output.status)))
    }
}
