//! `bundle push`: publish a bundle beside its image.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use bundles::bundle::Bundle;
use bundles::publish::{self, CvmfsServer};

use crate::json::PushedBundle;
use crate::output::Output;
use crate::registry_args::RegistryArgs;

const EXAMPLES: &str = "\
Examples:
  Publish a bundle and its packs into a repository of this machine:
    cvmfs-prefetch bundle push root.bundle --pack packs/*.pack --cvmfs unpacked.cern.ch

  Attach a bundle to its image in the registry:
    cvmfs-prefetch bundle push root.bundle --registry

  Write a tar file for `cvmfs_server ingest`:
    cvmfs-prefetch bundle push root.bundle --tarball bundle.tar
";

/// Publish a bundle, and its packs, into the repository or beside the image in its registry
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Push {
    /// Bundle
    bundle: PathBuf,
    /// Packs of the bundle
    #[arg(long, value_name = "FILE", num_args = 1.., action = clap::ArgAction::Append)]
    pack: Vec<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    registry: RegistryArgs,
}

#[derive(clap::Args)]
#[group(id = "target", required = true, multiple = false)]
#[command(next_help_heading = "Target (one of)")]
struct Target {
    /// Root of the repository, writable (inside `cvmfs_server transaction`), or a directory to copy there
    #[arg(long, value_name = "DIRECTORY")]
    tree: Option<PathBuf>,
    /// Tar file to write, for `cvmfs_server ingest --tar_file FILE --base_dir / ...`
    #[arg(long, value_name = "FILE")]
    tarball: Option<PathBuf>,
    /// Repository that this machine publishes; runs a transaction of its own
    #[arg(long, value_name = "REPOSITORY")]
    cvmfs: Option<String>,
    /// Image in a registry [default: the image that the bundle names]
    #[arg(long = "registry", value_name = "REFERENCE")]
    image: Option<Option<String>>,
}

impl Push {
    pub(crate) async fn run(self, out: &mut Output) -> Result<ExitCode> {
        let bundle = Bundle::read(&self.bundle)?;
        let report = self.push(&bundle).await?;
        out.report(self.json, &report, print)?;
        Ok(ExitCode::SUCCESS)
    }

    async fn push(&self, bundle: &Bundle) -> Result<PushedBundle> {
        let (packs, target) = (&self.pack, &self.target);
        let path = if let Some(tree) = &target.tree {
            publish::publish(bundle, tree, packs)?
        } else if let Some(file) = &target.tarball {
            publish::tarball(bundle, file, packs)?;
            file.clone()
        } else if let Some(repository) = &target.cvmfs {
            CvmfsServer::default().publish(bundle, repository, packs)?
        } else {
            return self.push_to_registry(bundle).await;
        };
        Ok(PushedBundle { location: path.display().to_string(), fallback_tag: None, replaced_bundles: 0 })
    }

    async fn push_to_registry(&self, bundle: &Bundle) -> Result<PushedBundle> {
        let given = self.target.image.as_ref().and_then(Option::as_ref);
        let reference = given.unwrap_or(&bundle.image.reference);
        ensure!(!reference.is_empty(), "the bundle does not name its image: give the reference with --registry");
        let pushed = publish::push(bundle, reference, &self.pack, self.registry.plain_http).await;
        let pushed = pushed.map_err(|error| self.registry.explain(error.into()))?;
        Ok(PushedBundle {
            location: pushed.artifact,
            fallback_tag: pushed.fallback_tag,
            replaced_bundles: pushed.replaced,
        })
    }
}

fn print(out: &mut impl Write, report: &PushedBundle) -> io::Result<()> {
    writeln!(out, "{}", report.location)?;
    if let Some(tag) = &report.fallback_tag {
        writeln!(out, "listed under the tag {tag}: this registry has no referrers API")?;
    }
    if report.replaced_bundles > 0 {
        writeln!(out, "replaced: {} older bundle(s) of this image", report.replaced_bundles)?;
    }
    Ok(())
}
