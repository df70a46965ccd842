//! `bundle export`: the files of a bundle in the format of another prefetcher.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use bundles::bundle::Bundle;
use bundles::export::{self, Files};
use bundles::path::RootPath;

use crate::json::ExportedBundle;
use crate::output::Output;

const EXAMPLES: &str = "\
Examples:
  Write the prefetch patterns of nydus:
    cvmfs-prefetch bundle export root.bundle --format nydus -o patterns

  Write bundles for the CVMFS client, to prefetch when python3 is opened:
    cvmfs-prefetch bundle export root.bundle --format native --trigger /usr/bin/python3 -o tree
";

/// Write the files of a bundle in the format of another prefetcher
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Export {
    /// Bundle
    bundle: PathBuf,
    /// Format to write
    #[arg(long)]
    format: Format,
    /// File to write [default: standard output]; for `native`, the directory to write to
    #[arg(long, short, value_name = "FILE|DIRECTORY")]
    output: Option<PathBuf>,
    /// Write only the common section and the section of this profile
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// For `native`: the file in the container that triggers the prefetch when it is opened, e.g. /usr/bin/python3
    #[arg(long, value_name = "PATH", required_if_eq("format", "native"))]
    trigger: Option<String>,
    /// Print the result as JSON
    #[arg(long, requires = "output")]
    json: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Format {
    /// `.cvmfsbundle-*` files of CVMFS 2.14, to be published into the repository
    Native,
    /// For `ctr-remote image convert --estargz-record-in` and `nerdctl image convert --estargz-record-in`
    Stargz,
    /// For `nydusify convert --prefetch-patterns`
    Nydus,
    /// For `soci create --prefetch-files-json`
    Soci,
}

impl Export {
    pub(crate) async fn run(self, out: &mut Output) -> Result<ExitCode> {
        let bundle = Bundle::read(&self.bundle)?;
        if let Some(name) = &self.profile {
            let names: Vec<_> = bundle.profiles.iter().map(|profile| profile.name.as_str()).collect();
            ensure!(names.contains(&name.as_str()), "the bundle has no profile {name:?}; it has {}", names.join(", "));
        }
        let files = Files::from_bundle(&bundle, self.profile.as_deref());
        let (outputs, inexpressible_files) = match self.format {
            Format::Native => self.write_native(&files)?,
            Format::Stargz => self.write(out, &export::stargz(&files))?,
            Format::Nydus => self.write(out, &export::nydus(&files))?,
            Format::Soci => self.write(out, &export::soci(&files))?,
        };
        let report = ExportedBundle {
            outputs,
            files: files.len() - inexpressible_files,
            inexpressible_files,
            excluded: files.not_exported.to_string(),
        };
        out.notes().print(format_args!("{} files exported", report.files));
        out.notes().print(format_args!(
            "excluded: {}, {inexpressible_files} names that the format cannot express",
            report.excluded
        ));
        // Without `--output`, the export itself is on standard output.
        if !report.outputs.is_empty() {
            out.report(self.json, &report, |out, report| {
                report.outputs.iter().try_for_each(|path| writeln!(out, "{path}"))
            })?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Writes a single file; the paths written, and the number of files with inexpressible names.
    fn write(&self, out: &mut Output, export: &export::Export) -> Result<(Vec<String>, usize)> {
        let Some(path) = &self.output else {
            out.print(|out| out.write_all(&export.content))?;
            return Ok((Vec::new(), export.inexpressible));
        };
        fs::write(path, &export.content).with_context(|| format!("cannot write {}", path.display()))?;
        Ok((vec![path.display().to_string()], export.inexpressible))
    }

    fn write_native(&self, files: &Files) -> Result<(Vec<String>, usize)> {
        let (Some(directory), Some(trigger)) = (&self.output, &self.trigger) else {
            bail!("the format native has several files: give a directory with --output");
        };
        let trigger = RootPath::new(trigger.as_bytes()).context("--trigger must be a path in the container")?;
        let native = export::native(files, &trigger)?;
        let mut outputs = Vec::new();
        for file in &native.files {
            let path = below(directory, &file.path);
            let parent = path.parent().unwrap_or(directory);
            fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
            fs::write(&path, &file.content).with_context(|| format!("cannot write {}", path.display()))?;
            outputs.push(path.display().to_string());
        }
        Ok((outputs, native.inexpressible))
    }
}

fn below(directory: &Path, path: &RootPath) -> PathBuf {
    path.components().fold(directory.to_owned(), |parent, name| parent.join(OsStr::from_bytes(name)))
}
