//! `trace stats`: how much of what is used when.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use bundles::trace::{FileUse, Trace};
use serde::Serialize;

use super::show;
use crate::{output, text};

/// How many of the largest files are named.
const LARGEST: usize = 10;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A trace
    file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let trace = Trace::read(&args.file)?;
    let stats = Stats::of(&trace);
    output::print(|out| if args.json { output::json(out, &stats) } else { print(out, &trace, &stats) })
}

/// Files and their bytes.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
struct Sum {
    files: usize,
    bytes: u64,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Stats<'a> {
    complete: bool,
    total: Sum,
    /// By way of use.
    by_use: BTreeMap<String, Sum>,
    /// By the first component of the path.
    by_directory: BTreeMap<String, Sum>,
    /// When this share of the files, in per cent, had been used.
    used_by: Vec<(u8, u64)>,
    largest: Vec<&'a FileUse>,
}

impl Sum {
    fn add(&mut self, file: &FileUse) {
        self.files += 1;
        self.bytes = self.bytes.saturating_add(file.size);
    }
}

impl<'a> Stats<'a> {
    fn of(trace: &'a Trace) -> Self {
        let mut total = Sum::default();
        let (mut by_use, mut by_directory) = (BTreeMap::<_, Sum>::new(), BTreeMap::<_, Sum>::new());
        for file in &trace.files {
            total.add(file);
            by_use.entry(file.how.to_string()).or_default().add(file);
            // A file of the root itself has no directory below it.
            let directory = file.path.components().next().filter(|_| file.path.components().count() > 1);
            let directory = directory.map_or("/".into(), |name| format!("/{}", String::from_utf8_lossy(name)));
            by_directory.entry(directory).or_default().add(file);
        }
        let at = |share: u8| {
            let place = (trace.files.len() * usize::from(share)).div_ceil(100).checked_sub(1)?;
            Some((share, trace.files.get(place)?.at_us))
        };
        let mut largest: Vec<_> = trace.files.iter().collect();
        largest.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.path.cmp(&b.path)));
        largest.truncate(LARGEST);
        let used_by = [50, 90, 99, 100].into_iter().filter_map(at).collect();
        Self { complete: trace.is_complete(), total, by_use, by_directory, used_by, largest }
    }
}

fn print(out: &mut impl Write, trace: &Trace, stats: &Stats<'_>) -> io::Result<()> {
    show::head(out, trace)?;
    for (share, at_us) in &stats.used_by {
        writeln!(out, "{share:>3} % used  {}", text::microseconds(*at_us))?;
    }
    for (title, sums) in [("use", &stats.by_use), ("directory", &stats.by_directory)] {
        writeln!(out, "\n  files       bytes  {title}")?;
        let mut sums: Vec<_> = sums.iter().collect();
        sums.sort_by_key(|(_, sum)| std::cmp::Reverse(sum.bytes));
        for (name, sum) in sums {
            writeln!(out, "{:>7} {:>11}  {}", sum.files, text::bytes(sum.bytes), text::line(name))?;
        }
    }
    writeln!(out, "\n  first use        size  largest files")?;
    for file in &stats.largest {
        let (at, size) = (text::microseconds(file.at_us), text::bytes(file.size));
        writeln!(out, "{at:>11} {size:>11}  {}", text::path(&file.path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::tests::trace;

    #[test]
    fn files_are_summed_by_use_and_directory() {
        let trace = trace(&[("/bin/sh", 0, 10), ("/usr/lib/a", 5, 30), ("/usr/lib/b", 9, 20), ("/top", 20, 1)]);
        let stats = Stats::of(&trace);
        let sum = |files, bytes| Sum { files, bytes };
        assert_eq!(stats.total, sum(4, 61));
        let directories: Vec<_> = stats.by_directory.into_iter().collect();
        assert_eq!(directories, [("/", 1, 1), ("/bin", 1, 10), ("/usr", 2, 50)].map(|(d, f, b)| (d.into(), sum(f, b))));
        assert_eq!(stats.used_by, [(50, 5), (90, 20), (99, 20), (100, 20)]);
        assert_eq!(stats.largest[0].path.to_string(), "/usr/lib/a");
    }

    #[test]
    fn an_empty_trace_has_figures_too() {
        let trace = trace(&[]);
        let stats = Stats::of(&trace);
        assert_eq!((stats.total.clone(), stats.used_by.len()), (Sum::default(), 0));
        let mut out = Vec::new();
        print(&mut out, &trace, &stats).unwrap();
        assert!(String::from_utf8(out).unwrap().contains("complete    yes"));
    }
}
