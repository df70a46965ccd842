//! `bundle pack`: the small objects of a bundle in packs.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use bundles::bundle::Bundle;
use bundles::pack::{self, PackFile, PackLimits};

use crate::json::PackedBundle;
use crate::output::Output;
use crate::repository_args::RepositoryArgs;
use crate::text;

const EXAMPLES: &str = "\
Examples:
  Pack the small objects of a bundle, and reuse packs that are published already:
    cvmfs-prefetch bundle pack root.bundle --published /cvmfs/unpacked.cern.ch/.bundles/packs -o packs \\
      --repository http://stratum1.example.org/cvmfs/unpacked.cern.ch \\
      --public-key /etc/cvmfs/keys/cern.ch/cern-it1.cern.ch.pub
";

/// Put the small objects of a bundle into packs
///
/// A node fetches a pack with one request instead of one request per object. The bundle is rewritten to refer to the packs;
/// publish both with `bundle push --pack`.
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Pack {
    /// Bundle, which is rewritten
    bundle: PathBuf,
    /// Directory of published packs, which are reused if the bundle needs most of their objects
    #[arg(long, value_name = "DIRECTORY")]
    published: Option<PathBuf>,
    /// Size of the largest object that goes into a pack
    #[arg(long, value_name = "BYTES", default_value_t = PackLimits::default().max_object)]
    max_object: u64,
    /// Directory to write the packs to, as SHA-256.pack
    #[arg(long, short, value_name = "DIRECTORY", default_value = "packs")]
    output: PathBuf,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    repository: RepositoryArgs,
}

impl Pack {
    pub(crate) async fn run(self, out: &mut Output) -> Result<ExitCode> {
        if self.max_object > pack::MAX_OBJECT {
            bail!(
                "--max-object {} is too large: a pack holds objects of at most {} bytes",
                self.max_object,
                pack::MAX_OBJECT
            );
        }
        let mut bundle = Bundle::read(&self.bundle)?;
        let image = self.repository.image(&bundle.image.reference).await?;
        if image.id.chain_id != bundle.image.chain_id {
            bail!(
                "{} is for the image {}, but {} is now {}: build or rebase the bundle first",
                self.bundle.display(),
                bundle.image.chain_id,
                image.id.reference,
                image.id.chain_id
            );
        }
        let repositories = self.repository.open().await?;
        let published = self.published.as_deref().map_or(Ok(Vec::new()), PackFile::all_below)?;
        let known: Vec<_> = published.iter().map(|pack| (pack.reference().clone(), pack.index().clone())).collect();
        let limits = PackLimits { max_object: self.max_object, ..PackLimits::default() };
        let plan = pack::plan(&bundle, &known, &limits);
        fs::create_dir_all(&self.output).with_context(|| format!("cannot create {}", self.output.display()))?;
        let server = repositories.image_server();
        let files = pack::add_packs(&mut bundle, &plan, &published, server, &self.output).await?;
        bundle.write(&self.bundle)?;
        let mut new_pack_bytes = 0;
        for file in &files {
            new_pack_bytes += fs::metadata(file).with_context(|| format!("cannot read {}", file.display()))?.len();
        }
        let report = PackedBundle {
            bundle: self.bundle.display().to_string(),
            objects: bundle.objects.len(),
            packed_objects: bundle.objects.iter().filter(|object| object.packed.is_some()).count(),
            new_packs: files.iter().map(|file| file.display().to_string()).collect(),
            new_pack_bytes,
            reused_packs: plan.reused.len(),
            layer_bytes: image.layer_sizes.iter().sum(),
        };
        out.report(self.json, &report, print)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn print(out: &mut impl Write, report: &PackedBundle) -> io::Result<()> {
    report.new_packs.iter().try_for_each(|pack| writeln!(out, "{pack}"))?;
    let PackedBundle { objects, packed_objects, new_pack_bytes, reused_packs, layer_bytes, .. } = report;
    let (new_packs, bytes) = (report.new_packs.len(), text::bytes(*new_pack_bytes));
    writeln!(
        out,
        "{packed_objects} of {objects} objects in {new_packs} new packs, {bytes}, and {reused_packs} published ones"
    )?;
    let percent = *new_pack_bytes as f64 * 100.0 / (*layer_bytes).max(1) as f64;
    let layers = text::bytes(*layer_bytes);
    writeln!(out, "the new packs have {percent:.1}% of the size of the image's compressed layers ({layers})")
}
