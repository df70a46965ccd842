//! `--verbose` and `--quiet`, and the log on standard error.

use std::io::{IsTerminal, stderr};

use clap::ArgAction;
use tracing_subscriber::EnvFilter;

/// The crates of this project, whose log messages `-v` shows. Those of other crates stay at warnings.
const CRATES: [&str; 5] = ["cli", "bundles", "api", "node", "tracer_ebpf"];

#[derive(clap::Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Verbosity {
    /// Print more log messages: -v information, -vv debugging, -vvv everything
    ///
    /// The environment variable RUST_LOG, if it is set, takes precedence over -v and -q.
    #[arg(short, long, global = true, action = ArgAction::Count, conflicts_with = "quiet")]
    verbose: u8,
    /// Print results and errors only: no progress, no warnings
    #[arg(short, long, global = true)]
    quiet: bool,
}

impl Verbosity {
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Sends log messages to standard error, with colours if it is a terminal.
    pub(crate) fn start_logging(&self) {
        let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(self.filter()));
        let color = stderr().is_terminal();
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr).with_ansi(color).init();
    }

    fn filter(&self) -> String {
        let (others, own) = match (self.quiet, self.verbose) {
            (true, _) => ("error", "error"),
            (false, 0) => ("warn", "warn"),
            (false, 1) => ("warn", "info"),
            (false, 2) => ("warn", "debug"),
            (false, _) => ("debug", "trace"),
        };
        CRATES.iter().fold(others.to_owned(), |filter, name| format!("{filter},{name}={own}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_v_shows_more_of_this_project() {
        for (quiet, verbose, expected) in [
            (false, 0, "warn,cli=warn"),
            (false, 1, "warn,cli=info"),
            (false, 2, "warn,cli=debug"),
            (false, 9, "debug,cli=trace"),
            (true, 0, "error,cli=error"),
        ] {
            let filter = Verbosity { verbose, quiet }.filter();
            assert!(filter.starts_with(expected), "{filter}");
            assert!(EnvFilter::try_new(&filter).is_ok(), "{filter}");
        }
    }
}
