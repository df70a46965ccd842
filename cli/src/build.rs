//! `build`: traces and image in, bundle out.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, anyhow, bail};
use bundles::builder::{Policy, Tree, Uses};
use bundles::bundle::{Bundle, Share};
use bundles::image::ImageId;
use bundles::path::RootPath;
use bundles::trace::Trace;

use crate::repository;
use crate::text;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Traces, as `record` writes them
    traces: Vec<PathBuf>,
    /// A trace of this kind of work, whatever it says itself; may be given several times
    #[arg(long, value_name = "NAME=TRACE", value_parser = named)]
    profile: Vec<(String, PathBuf)>,
    /// The image; by default the one that the traces name
    #[arg(long, value_name = "REFERENCE")]
    image: Option<String>,
    #[command(flatten)]
    repository: repository::Args,
    #[command(flatten)]
    tree: TreeArgs,
    #[command(flatten)]
    policy: PolicyArgs,
    /// Where to write the bundle
    #[arg(long, short, value_name = "FILE", default_value = "image.bundle")]
    output: PathBuf,
}

/// By which tree of the repository containers see the image.
#[derive(clap::Args)]
pub(crate) struct TreeArgs {
    /// The image's merged tree in the repository, as Apptainer runs it, e.g. /.flat/<2>/<hex> or a link to it; without this, the
    /// image's layers
    #[arg(long, value_name = "PATH", value_parser = path)]
    flat: Option<RootPath>,
}

impl TreeArgs {
    pub(crate) fn tree(&self) -> Tree {
        self.flat.clone().map_or(Tree::Layers, Tree::Flat)
    }
}

fn path(text: &str) -> Result<RootPath, String> {
    RootPath::new(text).map_err(|error| error.to_string())
}

/// What is worth to be in a bundle.
#[derive(clap::Args)]
pub(crate) struct PolicyArgs {
    /// Leave out what a smaller share of the traces used, from 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = f64::from(Policy::default().min_share.parts()) / 10_000.0, value_parser = share)]
    min_share: f64,
    /// The most bytes that the bundle may make a node transfer; what spares least a byte goes
    #[arg(long, value_name = "BYTES", default_value_t = Policy::default().max_bytes)]
    max_bytes: u64,
}

impl PolicyArgs {
    pub(crate) fn policy(&self) -> Policy {
        Policy { min_share: Share::of((self.min_share * 10_000.0).round() as u64, 10_000), max_bytes: self.max_bytes }
    }
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("expected a number from 0 to 1".into()),
    }
}

fn named(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, trace)) if !name.is_empty() && !trace.is_empty() => Ok((name.into(), trace.into())),
        _ => Err("expected a name and a trace, as in fit=fit.cpft".into()),
    }
}

pub(crate) async fn run(args: Args) -> Result<ExitCode> {
    let (uses, traced) = read(&args.traces, &args.profile)?;
    let image = args.repository.image(args.image.as_deref().unwrap_or(&traced.reference)).await?;
    let mut repositories = args.repository.open().await?;
    let bundle =
        bundles::builder::build(&image, &args.tree.tree(), &uses, &mut repositories, &args.policy.policy()).await?;
    bundle.write(&args.output)?;
    report(&bundle, &args.output);
    Ok(ExitCode::SUCCESS)
}

/// Reads traces, a few at a time: only what a bundle needs of them is kept. Tells the image of the first, too.
pub(crate) fn read(traces: &[PathBuf], profiles: &[(String, PathBuf)]) -> Result<(Uses, ImageId)> {
    let named = profiles.iter().map(|(name, path)| (Some(name), path));
    let all: Vec<_> = traces.iter().map(|path| (None, path)).chain(named).collect();
    let mut batches = all.chunks(std::thread::available_parallelism().map_or(1, usize::from));
    let (mut uses, mut image) = (Uses::default(), None);
    std::thread::scope(|scope| -> Result<()> {
        let mut read_next = || {
            let batch = batches.next()?.iter();
            Some(batch.map(|(_, path)| scope.spawn(|| Trace::read(path))).collect::<Vec<_>>())
        };
        let mut reading = read_next();
        let mut profiles = all.iter().map(|(profile, _)| *profile);
        while let Some(batch) = reading {
            let batch: Vec<_> = batch.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
            // The next ones are read while these are added.
            reading = read_next();
            for (read, profile) in batch.into_iter().zip(&mut profiles) {
                let mut trace = read.map_err(|_| anyhow!("a thread that read a trace panicked"))??;
                if let Some(profile) = profile {
                    trace.profile.clone_from(profile);
                }
                image.get_or_insert_with(|| trace.image.clone());
                uses.add(trace);
            }
        }
        Ok(())
    })?;
    tracing::debug!(traces = uses.len(), "traces read");
    match image {
        Some(image) => Ok((uses, image)),
        None => bail!("no trace was given: record one with `cvmfs-prefetch record`"),
    }
}

/// Says what became of the traces, or of the bundle that this one was carried over from.
pub(crate) fn report(bundle: &Bundle, output: &Path) {
    let (stored, raw) = bundle.bytes();
    println!(
        "{}: {} objects, {} to transfer, {} in the cache, from {} trace(s)",
        output.display(),
        bundle.objects.len(),
        text::bytes(stored),
        text::bytes(raw),
        bundle.traces
    );
    if let Some(carried) = &bundle.carried {
        let (same, changed, gone) = (carried.same, carried.changed, carried.gone);
        let from = &carried.from.reference;
        println!("carried over from {from}: {same} objects as they were, {changed} with new content, {gone} are gone");
    }
    for (count, what) in bundle.skipped.by_cause().iter().filter(|(count, _)| *count > 0) {
        println!("left out: {count} {what}");
    }
    if bundle.incomplete_traces > 0 {
        println!("warning: {} of the traces are incomplete, so the bundle may be", bundle.incomplete_traces);
    }
}
