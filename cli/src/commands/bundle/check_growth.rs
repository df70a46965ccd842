//! `bundle check-growth`: whether what a start needs has grown too much; for CI.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail};
use bundles::bundle::Bundle;
use bundles::report::{Diff, Files, Growth, Percentage};
use bundles::trace::Trace;

use crate::file_kind::FileKind;
use crate::json::{CheckedGrowth, FileChange};
use crate::output::Output;
use crate::text;

/// How many files are listed.
const MAX_FILES: usize = 10;

const EXAMPLES: &str = "\
Examples:
  Fail if the new bundle needs 10 % more bytes or objects before the main phase:
    cvmfs-prefetch bundle check-growth --max-growth 10% old.bundle new.bundle

Exit codes: 0 not grown by more, 1 grown by more, 2 the check was not possible, or wrong usage
";

/// Fail if the bytes or objects that a start needs have grown too much; for CI
///
/// Compares two bundles or two traces by the objects of the set-up and start-up phases. Prints a line, and a Markdown table
/// of the files that grew most.
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct CheckGrowth {
    /// Old bundle or trace
    old: PathBuf,
    /// New bundle or trace
    new: PathBuf,
    /// Limit for the growth of bytes and of objects
    #[arg(long, value_name = "PERCENT", default_value = "10%")]
    max_growth: Percentage,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

impl CheckGrowth {
    pub(crate) async fn run(self, out: &mut Output) -> Result<ExitCode> {
        let (old, new) = (FileKind::read(&self.old)?, FileKind::read(&self.new)?);
        if old != new {
            let (old, new) = (self.old.display(), self.new.display());
            bail!("cannot compare a bundle with a trace: give two bundles or two traces instead of {old} and {new}");
        }
        let report = check(&read(&self.old, old)?, &read(&self.new, new)?, self.max_growth);
        out.verdict(self.json, &report, print, !report.exceeded)
    }
}

/// The files of the set-up and start-up phases.
fn read(path: &Path, kind: FileKind) -> Result<Files> {
    Ok(match kind {
        FileKind::Bundle => Files::start_up_of(&Bundle::read(path)?),
        FileKind::Trace => {
            let trace = Trace::read(path)?;
            if !trace.is_complete() {
                bail!("{} is incomplete ({}): record it again", path.display(), trace.faults().join("; "));
            }
            Files::start_up_of_trace(&trace)
        }
    })
}

fn check(old: &Files, new: &Files, max_growth: Percentage) -> CheckedGrowth {
    let diff = Diff::between(old, new);
    let bytes = Growth { old: diff.old.bytes, new: diff.new.bytes };
    let objects = Growth { old: diff.old.objects, new: diff.new.objects };
    CheckedGrowth {
        old: diff.old.into(),
        new: diff.new.into(),
        max_growth: max_growth.to_string(),
        exceeded: bytes.exceeds(max_growth) || objects.exceeds(max_growth),
        grown_files: diff.increases().into_iter().map(FileChange::from).collect(),
    }
}

/// A line, and a table in Markdown.
fn print(out: &mut impl Write, report: &CheckedGrowth) -> io::Result<()> {
    let CheckedGrowth { old, new, max_growth, exceeded, grown_files } = report;
    let verdict = if *exceeded { "too much" } else { "ok" };
    let bytes = Growth { old: old.bytes, new: new.bytes };
    let objects = Growth { old: old.objects, new: new.objects };
    writeln!(
        out,
        "start-up: {} -> {} ({bytes}), {} -> {} objects ({objects}), at most +{max_growth}: {verdict}",
        text::bytes(old.bytes),
        text::bytes(new.bytes),
        old.objects,
        new.objects
    )?;
    if grown_files.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n| File | Before | After | Difference |\n|--|--:|--:|--:|")?;
    for change in grown_files.iter().take(MAX_FILES) {
        let before = if change.old.files == 0 { "-".into() } else { text::bytes(change.old.bytes) };
        let (path, after) = (text::markdown_code(&text::line(&change.path)), text::bytes(change.new.bytes));
        writeln!(out, "| {path} | {before} | {after} | {} |", text::difference(change.difference()))?;
    }
    let rest = grown_files.get(MAX_FILES..).unwrap_or_default();
    if !rest.is_empty() {
        let bytes = rest.iter().map(FileChange::difference).sum();
        writeln!(out, "| {} more | | | {} |", rest.len(), text::difference(bytes))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_traces::trace;

    fn checked(old: &[(&str, u64, u64)], new: &[(&str, u64, u64)], max_growth: &str) -> (bool, String) {
        let files = |files| Files::start_up_of_trace(&trace(files));
        let report = check(&files(old), &files(new), max_growth.parse().unwrap());
        let mut out = Vec::new();
        print(&mut out, &report).unwrap();
        (report.exceeded, String::from_utf8(out).unwrap())
    }

    #[test]
    fn bytes_and_objects_are_limited() {
        let old = [("/a", 0, 1000), ("/b", 1, 1000)];
        for (new, max_growth, exceeded) in [
            (&[("/a", 0, 1000), ("/b", 1, 1200)][..], "10%", false),
            (&[("/a", 0, 1000), ("/b", 1, 1201)], "10%", true),
            (&[("/a", 0, 1), ("/b", 1, 1), ("/c", 1, 1)], "10%", true),
            (&[("/a", 0, 1), ("/b", 1, 1), ("/c", 1, 1)], "50%", false),
            (&[], "0", false),
        ] {
            assert_eq!(checked(&old, new, max_growth).0, exceeded, "{new:?}");
        }
    }

    #[test]
    fn a_summary_line_is_followed_by_a_table() {
        let new = [("/a", 0, 1500), ("/x|`y`", 1, 300)];
        let (_, text) = checked(&[("/a", 0, 1000), ("/gone", 0, 300)], &new, "10%");
        let expected = "start-up: 1.30 kB -> 1.80 kB (+38.5%), 2 -> 2 objects (+0.0%), at most +10%: too much\n\n\
                        | File | Before | After | Difference |\n|--|--:|--:|--:|\n\
                        | `/a` | 1.00 kB | 1.50 kB | +500 B |\n\
                        | `` /x\\|`y` `` | - | 300 B | +300 B |\n";
        assert_eq!(text, expected);
        let many: Vec<_> = (0..12).map(|n| (format!("/{n}"), 0, 10)).collect();
        let many: Vec<_> = many.iter().map(|(path, at, size)| (path.as_str(), *at, *size)).collect();
        let (_, text) = checked(&[], &many, "10%");
        assert!(text.contains("0 B -> 120 B (new)") && text.contains("| 2 more | | | +20 B |"), "{text}");
    }
}
