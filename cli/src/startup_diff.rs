//! `startup-diff`: whether what a start needs has grown too much; for CI.
//!
//! Exit code 0: no. 1: yes. 2: it could not be told.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail};
use bundles::bundle::Bundle;
use bundles::report::{Diff, Files, Growth, Percentage};
use bundles::trace::Trace;

use crate::inspect::Kind;
use crate::{output, text};

/// How many files are named.
const GROWERS: usize = 10;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The bundle, or the trace, before
    old: PathBuf,
    /// The bundle, or the trace, after
    new: PathBuf,
    /// By how much the bytes or the objects of the set-up and start-up may grow
    #[arg(long, value_name = "PERCENT", default_value = "10%")]
    max_growth: Percentage,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let (old, new) = (Kind::of(&args.old)?, Kind::of(&args.new)?);
    if old != new {
        let (old, new) = (args.old.display(), args.new.display());
        bail!("one of {old} and {new} is a bundle, the other a trace: compare two of a kind");
    }
    let diff = Diff::between(&read(&args.old, old)?, &read(&args.new, new)?);
    let verdict = Verdict::of(&diff, args.max_growth);
    output::print(|out| print(out, &diff, &verdict))?;
    Ok(if verdict.grew_too_much { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn read(path: &Path, kind: Kind) -> Result<Files> {
    Ok(match kind {
        Kind::Bundle => Files::start_up_of(&Bundle::read(path)?),
        Kind::Trace => {
            let trace = Trace::read(path)?;
            if !trace.is_complete() {
                bail!("{} is incomplete ({}): record it again", path.display(), trace.faults().join("; "));
            }
            Files::start_up_of_trace(&trace)
        }
    })
}

struct Verdict {
    bytes: Growth,
    objects: Growth,
    most: Percentage,
    grew_too_much: bool,
}

impl Verdict {
    fn of(diff: &Diff, most: Percentage) -> Self {
        let bytes = Growth { old: diff.old.bytes, new: diff.new.bytes };
        let objects = Growth { old: diff.old.objects, new: diff.new.objects };
        Self { bytes, objects, most, grew_too_much: bytes.exceeds(most) || objects.exceeds(most) }
    }
}

/// A line, and a table in Markdown.
fn print(out: &mut impl Write, diff: &Diff, verdict: &Verdict) -> io::Result<()> {
    let Verdict { bytes, objects, most, grew_too_much } = verdict;
    let said = if *grew_too_much { "too much" } else { "ok" };
    let (old, new) = (text::bytes(bytes.old), text::bytes(bytes.new));
    writeln!(
        out,
        "start-up: {old} -> {new} ({bytes}), {} -> {} objects ({objects}), at most +{most}: {said}",
        objects.old, objects.new
    )?;
    let growers = diff.increases();
    if growers.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n| File | Before | After | Difference |\n|--|--:|--:|--:|")?;
    for change in growers.iter().take(GROWERS) {
        let before = if change.old.files == 0 { "-".into() } else { text::bytes(change.old.bytes) };
        let (path, after) = (text::markdown_code(&text::path(&change.path)), text::bytes(change.new.bytes));
        writeln!(out, "| {path} | {before} | {after} | {} |", text::difference(change.bytes()))?;
    }
    let rest = growers.get(GROWERS..).unwrap_or_default();
    if !rest.is_empty() {
        let bytes = rest.iter().map(|change| change.bytes()).sum();
        writeln!(out, "| {} more | | | {} |", rest.len(), text::difference(bytes))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::tests::trace;

    fn told(old: &[(&str, u64, u64)], new: &[(&str, u64, u64)], most: &str) -> (bool, String) {
        let files = |files| Files::start_up_of_trace(&trace(files));
        let diff = Diff::between(&files(old), &files(new));
        let verdict = Verdict::of(&diff, most.parse().unwrap());
        let mut out = Vec::new();
        print(&mut out, &diff, &verdict).unwrap();
        (verdict.grew_too_much, String::from_utf8(out).unwrap())
    }

    #[test]
    fn bytes_and_objects_are_held_to_the_limit() {
        let old = [("/a", 0, 1000), ("/b", 1, 1000)];
        for (new, most, too_much) in [
            (&[("/a", 0, 1000), ("/b", 1, 1200)][..], "10%", false),
            (&[("/a", 0, 1000), ("/b", 1, 1201)], "10%", true),
            (&[("/a", 0, 1), ("/b", 1, 1), ("/c", 1, 1)], "10%", true),
            (&[("/a", 0, 1), ("/b", 1, 1), ("/c", 1, 1)], "50%", false),
            (&[], "0", false),
        ] {
            assert_eq!(told(&old, new, most).0, too_much, "{new:?}");
        }
    }

    #[test]
    fn the_summary_is_a_line_and_the_growers_are_a_table() {
        let new = [("/a", 0, 1500), ("/x|`y`", 1, 300)];
        let (_, text) = told(&[("/a", 0, 1000), ("/gone", 0, 300)], &new, "10%");
        let expected = "start-up: 1.3 kB -> 1.8 kB (+38.5%), 2 -> 2 objects (+0.0%), at most +10%: too much\n\n\
                        | File | Before | After | Difference |\n|--|--:|--:|--:|\n\
                        | `/a` | 1.0 kB | 1.5 kB | +500 B |\n\
                        | `` /x\\|`y` `` | - | 300 B | +300 B |\n";
        assert_eq!(text, expected);
        let many: Vec<_> = (0..12).map(|n| (format!("/{n}"), 0, 10)).collect();
        let many: Vec<_> = many.iter().map(|(path, at, size)| (path.as_str(), *at, *size)).collect();
        let (_, text) = told(&[], &many, "10%");
        assert!(text.contains("0 B -> 120 B (new)") && text.contains("| 2 more | | | +20 B |"), "{text}");
    }
}
