//! `pack`: a bundle's small objects in packs.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use bundles::bundle::Bundle;
use bundles::pack::{self, PackFile, PackLimits};

use crate::{repository, text};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A bundle, as `build` writes it. It is written again, pointing to the packs
    bundle: PathBuf,
    #[command(flatten)]
    repository: repository::Args,
    /// Packs that are published already, to be used again where most of them is wanted, e.g.
    /// /cvmfs/unpacked.cern.ch/.bundles/packs
    #[arg(long, value_name = "DIRECTORY")]
    published: Option<PathBuf>,
    /// The largest object that goes into a pack
    #[arg(long, value_name = "BYTES", default_value_t = PackLimits::default().max_object)]
    max_object: u64,
    /// Where to write the packs, as <SHA-256>.pack
    #[arg(long, short, value_name = "DIRECTORY", default_value = "packs")]
    output: PathBuf,
}

pub(crate) async fn run(args: Args) -> Result<ExitCode> {
    if args.max_object > pack::MAX_OBJECT {
        bail!("--max-object {}: packs hold objects of at most {} bytes", args.max_object, pack::MAX_OBJECT);
    }
    let mut bundle = Bundle::read(&args.bundle)?;
    let image = args.repository.image(&bundle.image.reference).await?;
    if image.id.chain_id != bundle.image.chain_id {
        bail!("{} is now {}, the bundle is for {}", image.id.reference, image.id.chain_id, bundle.image.chain_id);
    }
    let repositories = args.repository.open().await?;
    let published = args.published.as_deref().map_or(Ok(Vec::new()), PackFile::all_below)?;
    let known: Vec<_> = published.iter().map(|pack| (pack.reference().clone(), pack.index().clone())).collect();
    let limits = PackLimits { max_object: args.max_object, ..PackLimits::default() };
    let plan = pack::plan(&bundle, &known, &limits);
    std::fs::create_dir_all(&args.output).with_context(|| args.output.display().to_string())?;
    let server = repositories.image_server();
    let files = pack::add_packs(&mut bundle, &plan, &published, server, &args.output).await?;
    bundle.write(&args.bundle)?;
    let mut new_bytes = 0;
    for file in &files {
        new_bytes += std::fs::metadata(file).with_context(|| file.display().to_string())?.len();
        println!("{}", file.display());
    }
    let packed = bundle.objects.iter().filter(|object| object.packed.is_some()).count();
    let (new, reused) = (files.len(), plan.reused.len());
    println!(
        "{packed} of {} objects in {new} new packs, {}, and {reused} published ones",
        bundle.objects.len(),
        text::bytes(new_bytes)
    );
    let layers: u64 = image.layer_sizes.iter().sum();
    let percent = new_bytes as f64 * 100.0 / layers.max(1) as f64;
    println!("the new packs take {percent:.1}% more than the image's compressed layers ({})", text::bytes(layers));
    Ok(ExitCode::SUCCESS)
}
