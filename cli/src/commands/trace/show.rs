//! `trace show`: a trace, file by file.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use bundles::trace::{Lookup, Process, Trace};

use crate::file_kind::FileKind;
use crate::output::Output;
use crate::text;

const EXAMPLES: &str = "\
Examples:
  Show the files in the order of their first use:
    cvmfs-prefetch trace show root.trace

  List the paths only:
    cvmfs-prefetch trace show root.trace --json | jq -r '.files[].path'
";

/// Show a trace, file by file
///
/// Prints when each file was used first, by which process, and how much of it was read. `trace stats` sums this up.
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Show {
    /// Trace
    file: PathBuf,
    /// Print the trace as JSON
    #[arg(long)]
    json: bool,
}

impl Show {
    pub(crate) async fn run(self, out: &mut Output) -> Result<ExitCode> {
        if FileKind::read(&self.file)? == FileKind::Bundle {
            let file = self.file.display();
            bail!("{file} is a bundle, not a trace: show it with `cvmfs-prefetch bundle inspect {file}`");
        }
        out.report(self.json, &Trace::read(&self.file)?, print)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn print(out: &mut impl Write, trace: &Trace) -> io::Result<()> {
    head(out, trace)?;
    writeln!(
        out,
        "\n  first use  phase            size        read  flags    how          process                path"
    )?;
    for file in &trace.files {
        // What is read of a file that the container writes is not all content of the image.
        let written = if file.written { " (written)" } else { "" };
        writeln!(
            out,
            "{:>11}  {:<8} {:>11} {:>11}  {:<#7x}  {:<11}  {:<21}  {}{written}",
            text::microseconds(file.at_us),
            trace.phases.phase_at(file.at_us).to_string(),
            text::bytes(file.size),
            file.ranges.as_ref().map_or("?".into(), |ranges| text::bytes(ranges.bytes_read())),
            file.open_flags,
            file.how.to_string(),
            process(&file.process),
            text::path(&file.path)
        )?;
    }
    lookups(out, trace, "looked up, does not exist", &trace.absent)?;
    lookups(out, trace, "directory listed", &trace.directories)
}

fn lookups(out: &mut impl Write, trace: &Trace, title: &str, lookups: &[Lookup]) -> io::Result<()> {
    if !lookups.is_empty() {
        writeln!(out, "\n  first use  phase     process                {title}")?;
    }
    for lookup in lookups {
        writeln!(
            out,
            "{:>11}  {:<8}  {:<21}  {}",
            text::microseconds(lookup.at_us),
            trace.phases.phase_at(lookup.at_us).to_string(),
            process(&lookup.process),
            text::path(&lookup.path)
        )?;
    }
    Ok(())
}

/// A process by number and name.
fn process(process: &Process) -> String {
    if !process.is_known() {
        return "?".into();
    }
    text::line(format!("{} {}", process.pid, process.name).trim_end())
}

/// What describes the trace as a whole; `trace stats` begins with it, too.
pub(super) fn head(out: &mut impl Write, trace: &Trace) -> io::Result<()> {
    text::image(out, &trace.image)?;
    if !trace.command.is_empty() {
        writeln!(out, "command     {}", text::command(&trace.command))?;
    }
    writeln!(out, "recorder    {}", text::line(&trace.recorder))?;
    writeln!(out, "duration    {}, {}", text::microseconds(trace.duration_us), trace.end)?;
    writeln!(out, "phases      {}", phases(trace))?;
    match trace.faults().as_slice() {
        [] => writeln!(out, "complete    yes")?,
        faults => writeln!(out, "complete    no ({})", faults.join("; "))?,
    }
    let blind_spots: Vec<_> = trace.blind_spots.names().collect();
    if !blind_spots.is_empty() {
        writeln!(out, "blind spots {}", blind_spots.join(", "))?;
    }
    let excluded: Vec<_> = trace.excluded.by_reason().map(|(reason, count)| format!("{count} {reason}")).collect();
    if !excluded.is_empty() {
        writeln!(out, "excluded    {} (uses, for privacy)", excluded.join(", "))?;
    }
    for mounted in &trace.repositories {
        writeln!(out, "repository  {} at {}", mounted.name, text::path(&mounted.path))?;
    }
    let size = trace.files.iter().fold(0u64, |sum, file| sum.saturating_add(file.size));
    writeln!(out, "files       {}, {}", trace.files.len(), text::bytes(size))
}

/// When each phase begins.
fn phases(trace: &Trace) -> String {
    let start_up = text::microseconds(trace.phases.start_up_us);
    match trace.phases.main_us {
        Some(main_us) => format!("start-up from {start_up}, main from {}", text::microseconds(main_us)),
        None => format!("start-up from {start_up}, to the end"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_traces::{full_trace, trace};

    fn printed(trace: &Trace) -> String {
        let mut out = Vec::new();
        print(&mut out, trace).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn everything_in_a_trace_is_shown() {
        let text = printed(&full_trace());
        for line in [
            "command     sh -c 'it'\\''s \\n'",
            "phases      start-up from 0.0 ms, main from 0.0 ms",
            "excluded    9 other file system (uses, for privacy)",
            "repository  x.org at /cvmfs/x.org",
            "     0.0 ms  set-up       1.00 kB       400 B  0x0      open         ?                      /bin/sh",
            "     0.0 ms  start-up       300 B       100 B  0x0      open         1 sh                   /etc/conf (written)",
            "     0.0 ms  main           500 B         0 B  0x0      open         7 a,b                  /usr/lib/a",
            "     0.0 ms  start-up  1 sh                   /lib/none",
            "     0.0 ms  start-up  1 sh                   /etc",
        ] {
            assert!(text.lines().any(|l| l == line), "{line:?} is not in\n{text}");
        }
    }

    #[test]
    fn unknown_values_are_a_question_mark_or_no_line() {
        let text = printed(&trace(&[("/a", 0, 1)]));
        assert!(text.contains("         1 B           ?  0x0"), "{text}");
        for title in ["command", "excluded", "repository", "looked up", "directory"] {
            assert!(!text.contains(title), "{title} is in\n{text}");
        }
    }
}
