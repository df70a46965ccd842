//! `export`: the files of a bundle, as another prefetcher takes them.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use bundles::bundle::Bundle;
use bundles::export::{self, Export, Files};
use bundles::path::RootPath;

use crate::output;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A bundle, as `build` writes it
    bundle: PathBuf,
    /// For whom
    #[arg(long)]
    format: Format,
    /// File to write, by default standard output; for `native` the directory below which to write
    #[arg(long, short, value_name = "FILE|DIRECTORY")]
    output: Option<PathBuf>,
    /// Only the common part and that of this kind of work
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// For `native`: the file in the container whose opening triggers the prefetch, e.g. /usr/bin/python3
    #[arg(long, value_name = "PATH", required_if_eq("format", "native"))]
    trigger: Option<String>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Format {
    /// `.cvmfsbundle-*` files of CVMFS 2.14, to be published into the repository
    Native,
    /// `ctr-remote image convert --estargz-record-in`, `nerdctl image convert --estargz-record-in`
    Stargz,
    /// `nydusify convert --prefetch-patterns`
    Nydus,
    /// `soci create --prefetch-files-json`
    Soci,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let bundle = Bundle::read(&args.bundle)?;
    if let Some(name) = &args.profile {
        let names: Vec<_> = bundle.profiles.iter().map(|profile| profile.name.as_str()).collect();
        ensure!(names.contains(&name.as_str()), "the bundle has no profile {name:?}, only {names:?}");
    }
    let files = Files::from_bundle(&bundle, args.profile.as_deref());
    let (written, inexpressible) = match args.format {
        Format::Native => native(args, &files)?,
        Format::Stargz => one(args, export::stargz(&files))?,
        Format::Nydus => one(args, export::nydus(&files))?,
        Format::Soci => one(args, export::soci(&files))?,
    };
    eprintln!("{} files{written}", files.len() - inexpressible);
    eprintln!("left out: {}, {inexpressible} names that the format cannot express", files.not_exported);
    Ok(ExitCode::SUCCESS)
}

fn one(args: &Args, export: Export) -> Result<(String, usize)> {
    match &args.output {
        Some(path) => std::fs::write(path, &export.content).with_context(|| path.display().to_string())?,
        None => drop(output::print(|out| out.write_all(&export.content))?),
    }
    Ok((String::new(), export.inexpressible))
}

fn native(args: &Args, files: &Files) -> Result<(String, usize)> {
    let (Some(directory), Some(trigger)) = (&args.output, &args.trigger) else {
        bail!("native bundles are several files: say with --output below which directory to write them");
    };
    let trigger = RootPath::new(trigger.as_bytes()).context("the trigger must be a path in the container")?;
    let native = export::native(files, &trigger)?;
    for file in &native.files {
        let path = below(directory, &file.path);
        let parent = path.parent().unwrap_or(directory);
        std::fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
        std::fs::write(&path, &file.content).with_context(|| path.display().to_string())?;
        println!("{}", path.display());
    }
    Ok((format!(", the trigger one of them, in {} bundle(s)", native.files.len()), native.inexpressible))
}

fn below(directory: &Path, path: &RootPath) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    path.components().fold(directory.to_owned(), |at, name| at.join(std::ffi::OsStr::from_bytes(name)))
}
