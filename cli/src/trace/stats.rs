//! `trace stats`: how much of what is used when.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use bundles::phase::Phase;
use bundles::trace::{Excluded, FileUse, Trace};
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

/// Files, their bytes, and what was read of them.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
struct Sum {
    files: usize,
    bytes: u64,
    /// Bytes that were asked for; of files whose ranges are not known, none.
    read: u64,
    /// Bytes that were read besides.
    ahead: u64,
    /// Files whose ranges are not known.
    ranges_not_known: usize,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Stats<'a> {
    complete: bool,
    total: Sum,
    /// Files that the container wrote.
    written: usize,
    /// By phase of the first use.
    by_phase: BTreeMap<Phase, Sum>,
    /// By way of use.
    by_use: BTreeMap<String, Sum>,
    /// By the name of the process that used it first; empty where that is not known.
    by_process: BTreeMap<&'a str, Sum>,
    /// By the first component of the path.
    by_directory: BTreeMap<String, Sum>,
    /// When this share of the files, in per cent, had been used.
    used_by: Vec<(u8, u64)>,
    largest: Vec<&'a FileUse>,
    /// Uses that were left out for privacy.
    excluded: &'a Excluded,
    /// How many paths were looked for in vain.
    absent: usize,
    /// How many directories were listed.
    directories: usize,
}

impl Sum {
    fn add(&mut self, file: &FileUse) {
        self.files += 1;
        self.bytes = self.bytes.saturating_add(file.size);
        match &file.ranges {
            Some(ranges) => {
                self.read = self.read.saturating_add(ranges.bytes_read());
                self.ahead = self.ahead.saturating_add(ranges.bytes_ahead());
            }
            None => self.ranges_not_known += 1,
        }
    }

    /// What was read and what was read ahead, for people.
    fn read(&self) -> [String; 2] {
        match self.files > 0 && self.files == self.ranges_not_known {
            true => ["?".into(), "?".into()],
            false => [text::bytes(self.read), text::bytes(self.ahead)],
        }
    }
}

impl<'a> Stats<'a> {
    fn of(trace: &'a Trace) -> Self {
        let at = |share: u8| {
            let place = (trace.files.len() * usize::from(share)).div_ceil(100).checked_sub(1)?;
            Some((share, trace.files.get(place)?.at_us))
        };
        let mut largest: Vec<_> = trace.files.iter().collect();
        largest.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.path.cmp(&b.path)));
        largest.truncate(LARGEST);
        Self {
            complete: trace.is_complete(),
            total: by(trace, |_| ()).remove(&()).unwrap_or_default(),
            written: trace.files.iter().filter(|file| file.written).count(),
            by_phase: by(trace, |file| trace.phases.phase_at(file.at_us)),
            by_use: by(trace, |file| file.how.to_string()),
            by_process: by(trace, |file| file.process.name.as_str()),
            by_directory: by(trace, directory),
            used_by: [50, 90, 99, 100].into_iter().filter_map(at).collect(),
            largest,
            excluded: &trace.excluded,
            absent: trace.absent.len(),
            directories: trace.directories.len(),
        }
    }
}

/// The files summed by what `key` says of them.
fn by<'a, K: Ord>(trace: &'a Trace, key: impl Fn(&'a FileUse) -> K) -> BTreeMap<K, Sum> {
    let mut sums = BTreeMap::<K, Sum>::new();
    for file in &trace.files {
        sums.entry(key(file)).or_default().add(file);
    }
    sums
}

/// The directory of the root that a file is below. A file of the root itself has none.
fn directory(file: &FileUse) -> String {
    let first = file.path.components().next().filter(|_| file.path.components().count() > 1);
    first.map_or("/".into(), |name| format!("/{}", String::from_utf8_lossy(name)))
}

fn print(out: &mut impl Write, trace: &Trace, stats: &Stats<'_>) -> io::Result<()> {
    show::head(out, trace)?;
    let [read, ahead] = stats.total.read();
    writeln!(out, "read        {read}, and {ahead} ahead")?;
    // None may mean that the recorder did not look for them.
    let besides = [
        ("written", stats.written, "files that the container wrote"),
        ("absent", stats.absent, "paths that were looked for in vain"),
        ("listed", stats.directories, "directories"),
    ];
    for (title, count, what) in besides.into_iter().filter(|(_, count, _)| *count > 0) {
        writeln!(out, "{title:<11} {count} {what}")?;
    }
    for (share, at_us) in &stats.used_by {
        writeln!(out, "{share:>3} % used  {}", text::microseconds(*at_us))?;
    }
    let named = |(name, sum): (&&str, &Sum)| (if name.is_empty() { "?" } else { *name }.to_string(), sum.clone());
    for (title, mut sums) in [
        ("phase", stats.by_phase.iter().map(|(phase, sum)| (phase.to_string(), sum.clone())).collect::<Vec<_>>()),
        ("use", stats.by_use.clone().into_iter().collect()),
        ("process", stats.by_process.iter().map(named).collect()),
        ("directory", stats.by_directory.clone().into_iter().collect()),
    ] {
        writeln!(out, "\n  files       bytes        read       ahead  {title}")?;
        // Phases have an order of their own.
        if title != "phase" {
            sums.sort_by_key(|(_, sum)| std::cmp::Reverse(sum.bytes));
        }
        for (name, sum) in sums {
            let ([read, ahead], bytes) = (sum.read(), text::bytes(sum.bytes));
            writeln!(out, "{:>7} {bytes:>11} {read:>11} {ahead:>11}  {}", sum.files, text::line(&name))?;
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
    use crate::trace::tests::{told, trace};

    #[test]
    fn files_are_summed_by_use_and_directory() {
        let trace = trace(&[("/bin/sh", 0, 10), ("/usr/lib/a", 5, 30), ("/usr/lib/b", 9, 20), ("/top", 20, 1)]);
        let stats = Stats::of(&trace);
        let sum = |files, bytes| Sum { files, bytes, ranges_not_known: files, ..Sum::default() };
        assert_eq!(stats.total, sum(4, 61));
        let directories: Vec<_> = stats.by_directory.into_iter().collect();
        assert_eq!(directories, [("/", 1, 1), ("/bin", 1, 10), ("/usr", 2, 50)].map(|(d, f, b)| (d.into(), sum(f, b))));
        assert_eq!(stats.used_by, [(50, 5), (90, 20), (99, 20), (100, 20)]);
        assert_eq!(stats.largest[0].path.to_string(), "/usr/lib/a");
    }

    #[test]
    fn what_was_read_is_summed_by_phase_and_process() {
        let trace = told();
        let stats = Stats::of(&trace);
        let sum = |bytes, read, ahead| Sum { files: 1, bytes, read, ahead, ranges_not_known: 0 };
        let (one, two, three) = (sum(1000, 400, 300), sum(300, 100, 0), sum(500, 0, 0));
        let phases = [(Phase::SetUp, one.clone()), (Phase::StartUp, two.clone()), (Phase::Main, three.clone())];
        assert_eq!(stats.by_phase, phases.into());
        assert_eq!(stats.by_process, [("", one), ("sh", two), ("a,b", three)].into());
        assert_eq!(stats.total, Sum { files: 3, ..sum(1800, 500, 300) });
        assert_eq!((stats.written, stats.absent, stats.directories, stats.excluded.total()), (1, 1, 1, 9));
        let json = serde_json::to_value(&stats).unwrap();
        assert_eq!(
            (&json["by_phase"]["set_up"]["read"], &json["by_process"]["sh"]["bytes"]),
            (&400.into(), &300.into())
        );
        let mut out = Vec::new();
        print(&mut out, &trace, &stats).unwrap();
        let text = String::from_utf8(out).unwrap();
        for line in ["read        500 B, and 300 B ahead", "      1      1.0 kB       400 B       300 B  set-up"] {
            assert!(text.lines().any(|l| l == line), "{line:?} is not in\n{text}");
        }
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
