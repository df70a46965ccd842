//! `publish`: a bundle beside its image.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use bundles::bundle::Bundle;
use bundles::publish::{self, CvmfsServer};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A bundle, as `build` writes it
    bundle: PathBuf,
    #[command(flatten)]
    to: To,
    /// A pack of the bundle, `<SHA-256>.pack`; may be given several times
    #[arg(long, value_name = "FILE")]
    pack: Vec<PathBuf>,
    /// Talk to the registry without TLS
    #[arg(long)]
    plain_http: bool,
}

/// Where it goes.
#[derive(clap::Args)]
#[group(id = "to", required = true, multiple = false)]
struct To {
    /// Root of the repository, open for writing (inside `cvmfs_server transaction`), or a directory to be copied there
    #[arg(long, value_name = "DIRECTORY")]
    tree: Option<PathBuf>,
    /// A tar file to be written, for `cvmfs_server ingest --tar_file FILE --base_dir / ...`
    #[arg(long, value_name = "FILE")]
    tarball: Option<PathBuf>,
    /// A repository that this machine publishes: in a transaction of its own
    #[arg(long, value_name = "FQRN")]
    cvmfs: Option<String>,
    /// The image's registry; by default as the bundle names the image
    #[arg(long, value_name = "REFERENCE")]
    registry: Option<Option<String>>,
}

pub(crate) async fn run(args: &Args) -> Result<ExitCode> {
    let bundle = Bundle::read(&args.bundle)?;
    let (to, packs) = (&args.to, &args.pack);
    if let Some(tree) = &to.tree {
        println!("{}", publish::publish(&bundle, tree, packs)?.display());
    } else if let Some(file) = &to.tarball {
        publish::tarball(&bundle, file, packs)?;
        println!("{}", file.display());
    } else if let Some(fqrn) = &to.cvmfs {
        println!("{}", CvmfsServer::default().publish(&bundle, fqrn, packs)?.display());
    } else if let Some(reference) = &to.registry {
        let reference = reference.as_ref().unwrap_or(&bundle.image.reference);
        ensure!(!reference.is_empty(), "the bundle does not name its image: give a reference to --registry");
        let pushed = publish::push(&bundle, reference, packs, args.plain_http).await?;
        println!("{}", pushed.artifact);
        if let Some(tag) = &pushed.fallback_tag {
            println!("listed under the tag {tag}, as this registry has no referrers API");
        }
        if pushed.replaced > 0 {
            println!("replaced: {} older bundle(s) of this image", pushed.replaced);
        }
    }
    Ok(ExitCode::SUCCESS)
}
