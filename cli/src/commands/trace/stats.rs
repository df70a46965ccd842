//! `trace stats`: a trace in figures.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use bundles::trace::{FileUse, Trace};

use super::show;
use crate::json::{FileSum, LargeFile, TraceStats, UsedBy};
use crate::output::Output;
use crate::text;

/// How many of the largest files are listed.
const LARGEST: usize = 10;

const EXAMPLES: &str = "\
Examples:
  Show how many files and bytes each phase, process and directory uses:
    cvmfs-prefetch trace stats root.trace

  Print when 90 % of the files had been used, in microseconds:
    cvmfs-prefetch trace stats root.trace --json | jq '.used_by[] | select(.percent == 90).at_us'
";

/// Sum up a trace by phase, process and directory
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Stats {
    /// Trace
    file: PathBuf,
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
}

impl Stats {
    pub(crate) async fn run(self, out: &mut Output) -> Result<ExitCode> {
        let trace = Trace::read(&self.file)?;
        out.report(self.json, &TraceStats::new(&trace), |out, stats| print(out, &trace, stats))?;
        Ok(ExitCode::SUCCESS)
    }
}

impl TraceStats {
    pub(crate) fn new(trace: &Trace) -> Self {
        let used_by = |percent: u8| {
            let index = (trace.files.len() * usize::from(percent)).div_ceil(100).checked_sub(1)?;
            Some(UsedBy { percent, at_us: trace.files.get(index)?.at_us })
        };
        let mut largest: Vec<_> = trace.files.iter().collect();
        largest.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.path.cmp(&b.path)));
        let large_file =
            |file: &&FileUse| LargeFile { path: file.path.to_string(), size: file.size, first_use_us: file.at_us };
        Self {
            complete: trace.is_complete(),
            total: sum_by(trace, |_| ()).remove(&()).unwrap_or_default(),
            written_files: trace.files.iter().filter(|file| file.written).count(),
            by_phase: sum_by(trace, |file| trace.phases.phase_at(file.at_us)),
            by_use: sum_by(trace, |file| file.how.to_string()),
            by_process: sum_by(trace, |file| file.process.name.to_string()),
            by_directory: sum_by(trace, directory),
            used_by: [50, 90, 99, 100].into_iter().filter_map(used_by).collect(),
            largest_files: largest.iter().take(LARGEST).map(large_file).collect(),
            excluded_uses: trace.excluded.by_reason().map(|(reason, count)| (reason.to_string(), count)).collect(),
            absent_paths: trace.absent.len(),
            listed_directories: trace.directories.len(),
        }
    }
}

/// The sums of the files by `key`.
fn sum_by<K: Ord>(trace: &Trace, key: impl Fn(&FileUse) -> K) -> BTreeMap<K, FileSum> {
    let mut sums = BTreeMap::<K, FileSum>::new();
    for file in &trace.files {
        add(sums.entry(key(file)).or_default(), file);
    }
    sums
}

fn add(sum: &mut FileSum, file: &FileUse) {
    sum.files += 1;
    sum.bytes = sum.bytes.saturating_add(file.size);
    match &file.ranges {
        Some(ranges) => {
            sum.read_bytes = sum.read_bytes.saturating_add(ranges.bytes_read());
            sum.read_ahead_bytes = sum.read_ahead_bytes.saturating_add(ranges.bytes_ahead());
        }
        None => sum.files_without_ranges += 1,
    }
}

/// The first component of a file's path; the root for a file in the root directory.
fn directory(file: &FileUse) -> String {
    let first = file.path.components().next().filter(|_| file.path.components().count() > 1);
    first.map_or("/".into(), |name| format!("/{}", String::from_utf8_lossy(name)))
}

/// Bytes read, and bytes read ahead.
fn read_bytes(sum: &FileSum) -> [String; 2] {
    if sum.files > 0 && sum.files == sum.files_without_ranges {
        return ["?".into(), "?".into()];
    }
    [text::bytes(sum.read_bytes), text::bytes(sum.read_ahead_bytes)]
}

fn print(out: &mut impl Write, trace: &Trace, stats: &TraceStats) -> io::Result<()> {
    show::head(out, trace)?;
    let [read, ahead] = read_bytes(&stats.total);
    writeln!(out, "read        {read}, and {ahead} ahead")?;
    // 0 may mean that the recorder was not asked to record these.
    for (title, count, what) in [
        ("written", stats.written_files, "files that the container wrote"),
        ("absent", stats.absent_paths, "paths that do not exist"),
        ("listed", stats.listed_directories, "directories"),
    ] {
        if count > 0 {
            writeln!(out, "{title:<11} {count} {what}")?;
        }
    }
    for UsedBy { percent, at_us } in &stats.used_by {
        writeln!(out, "{percent:>3} % used  {}", text::microseconds(*at_us))?;
    }
    let phases = stats.by_phase.iter().map(|(phase, sum)| (phase.to_string(), sum)).collect();
    sums(out, "phase", phases)?;
    sums(out, "use", by_size(&stats.by_use))?;
    sums(out, "process", by_size(&stats.by_process))?;
    sums(out, "directory", by_size(&stats.by_directory))?;
    writeln!(out, "\n  first use        size  largest files")?;
    for LargeFile { path, size, first_use_us } in &stats.largest_files {
        let (at, size) = (text::microseconds(*first_use_us), text::bytes(*size));
        writeln!(out, "{at:>11} {size:>11}  {}", text::line(path))?;
    }
    Ok(())
}

/// The sums, the largest first.
fn by_size(sums: &BTreeMap<String, FileSum>) -> Vec<(String, &FileSum)> {
    let mut sums: Vec<_> = sums.iter().map(|(name, sum)| (name.clone(), sum)).collect();
    sums.sort_by_key(|(_, sum)| std::cmp::Reverse(sum.bytes));
    sums
}

fn sums(out: &mut impl Write, title: &str, sums: Vec<(String, &FileSum)>) -> io::Result<()> {
    writeln!(out, "\n  files       bytes        read       ahead  {title}")?;
    for (name, sum) in sums {
        let ([read, ahead], bytes) = (read_bytes(sum), text::bytes(sum.bytes));
        let name = if name.is_empty() { "?".into() } else { text::line(&name) };
        writeln!(out, "{:>7} {bytes:>11} {read:>11} {ahead:>11}  {name}", sum.files)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bundles::phase::Phase;

    use super::*;
    use crate::test_traces::{full_trace, trace};

    #[test]
    fn files_are_summed_by_directory() {
        let trace = trace(&[("/bin/sh", 0, 10), ("/usr/lib/a", 5, 30), ("/usr/lib/b", 9, 20), ("/top", 20, 1)]);
        let stats = TraceStats::new(&trace);
        let sum = |files, bytes| FileSum { files, bytes, files_without_ranges: files, ..FileSum::default() };
        assert_eq!(stats.total, sum(4, 61));
        let directories: Vec<_> = stats.by_directory.into_iter().collect();
        assert_eq!(directories, [("/", 1, 1), ("/bin", 1, 10), ("/usr", 2, 50)].map(|(d, f, b)| (d.into(), sum(f, b))));
        let used_by: Vec<_> = stats.used_by.iter().map(|used| (used.percent, used.at_us)).collect();
        assert_eq!(used_by, [(50, 5), (90, 20), (99, 20), (100, 20)]);
        assert_eq!(stats.largest_files[0].path, "/usr/lib/a");
    }

    #[test]
    fn reads_are_summed_by_phase_and_process() {
        let trace = full_trace();
        let stats = TraceStats::new(&trace);
        let sum = |bytes, read_bytes, ahead| FileSum {
            files: 1,
            bytes,
            read_bytes,
            read_ahead_bytes: ahead,
            files_without_ranges: 0,
        };
        let (first, second, third) = (sum(1000, 400, 300), sum(300, 100, 0), sum(500, 0, 0));
        let phases = [(Phase::SetUp, first.clone()), (Phase::StartUp, second.clone()), (Phase::Main, third.clone())];
        assert_eq!(stats.by_phase, phases.into());
        assert_eq!(stats.by_process, [("", first), ("sh", second), ("a,b", third)].map(|(n, s)| (n.into(), s)).into());
        assert_eq!(stats.total, FileSum { files: 3, ..sum(1800, 500, 300) });
        assert_eq!((stats.written_files, stats.absent_paths, stats.listed_directories), (1, 1, 1));
        assert_eq!(stats.excluded_uses.values().sum::<u64>(), 9);
        let json = serde_json::to_value(&stats).unwrap();
        assert_eq!(json["by_phase"]["set_up"]["read_bytes"], 400);
        assert_eq!(json["by_process"]["sh"]["bytes"], 300);
        let mut out = Vec::new();
        print(&mut out, &trace, &stats).unwrap();
        let text = String::from_utf8(out).unwrap();
        for line in ["read        500 B, and 300 B ahead", "      1     1.00 kB       400 B       300 B  set-up"] {
            assert!(text.lines().any(|l| l == line), "{line:?} is not in\n{text}");
        }
    }

    #[test]
    fn an_empty_trace_has_figures_too() {
        let trace = trace(&[]);
        let stats = TraceStats::new(&trace);
        assert_eq!((stats.total.clone(), stats.used_by.len()), (FileSum::default(), 0));
        let mut out = Vec::new();
        print(&mut out, &trace, &stats).unwrap();
        assert!(String::from_utf8(out).unwrap().contains("complete    yes"));
    }
}
