//! Standard output, through which every command prints, and notes on standard error.

use std::fmt::Display;
use std::io::{self, BufWriter, Stdout, Write};
use std::process::ExitCode;

use anyhow::{Context, Result};
use serde::Serialize;

/// What the printing functions write to.
pub(crate) type Writer = BufWriter<Stdout>;

/// The reader of standard output has closed it, as `| head -1` does. The program ends quietly then.
#[derive(Debug, thiserror::Error)]
#[error("standard output was closed")]
pub(crate) struct Closed;

/// The one way to print. `println!` would panic when standard output is closed.
pub(crate) struct Output {
    stdout: Writer,
    notes: Notes,
}

/// Prints what a user at a terminal wants to see on the way to the result.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Notes {
    quiet: bool,
}

impl Output {
    pub(crate) fn new(quiet: bool) -> Self {
        Self { stdout: BufWriter::new(io::stdout()), notes: Notes { quiet } }
    }

    pub(crate) fn notes(&self) -> Notes {
        self.notes
    }

    /// Runs `print` on standard output, and flushes it.
    pub(crate) fn print(&mut self, print: impl FnOnce(&mut Writer) -> io::Result<()>) -> Result<()> {
        match print(&mut self.stdout).and_then(|()| self.stdout.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Closed.into()),
            result => result.context("cannot write to standard output"),
        }
    }

    /// Prints the result of a command: `report` as JSON, or what `text` writes.
    pub(crate) fn report<T: Serialize>(
        &mut self,
        json: bool,
        report: &T,
        text: impl FnOnce(&mut Writer, &T) -> io::Result<()>,
    ) -> Result<()> {
        self.print(|out| if json { write_json(out, report) } else { text(out, report) })
    }

    /// Prints the result of a check. The exit code is the verdict, also if nobody reads the text to its end.
    pub(crate) fn verdict<T: Serialize>(
        &mut self,
        json: bool,
        report: &T,
        text: impl FnOnce(&mut Writer, &T) -> io::Result<()>,
        passed: bool,
    ) -> Result<ExitCode> {
        match self.report(json, report, text) {
            Err(error) if !error.is::<Closed>() => Err(error),
            _ if passed => Ok(ExitCode::SUCCESS),
            _ => Ok(ExitCode::FAILURE),
        }
    }
}

impl Notes {
    /// Prints a line on standard error, unless `--quiet` is given.
    pub(crate) fn print(self, note: impl Display) {
        if !self.quiet {
            warn(note);
        }
    }

    pub(crate) fn is_quiet(self) -> bool {
        self.quiet
    }
}

/// Prints a line on standard error. Standard error may be closed.
pub(crate) fn warn(message: impl Display) {
    let _ = writeln!(io::stderr(), "{message}");
}

/// `value` as indented JSON.
pub(crate) fn write_json<T: Serialize>(out: &mut impl Write, value: &T) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)
}

/// `value` as JSON on one line, for a stream of results.
pub(crate) fn write_json_line<T: Serialize>(out: &mut impl Write, value: &T) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    writeln!(out)
}
