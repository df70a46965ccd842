//! `cvmfs-prefetch`: the command line for image maintainers and node operators.
//!
//! - [`commands`]: one file per command. Each has a struct with the flags (its doc comment is the help text), the
//!   examples of `--help`, and a method `run` that prints through [`output::Output`] and returns the exit code.
//! - [`build_args`], [`repository_args`], [`registry_args`], [`daemon_args`]: flags that several commands have.
//! - [`recording`]: what `record` and `watch` share.
//! - [`request`]: waiting for a request of the daemon, and printing it.
//! - [`json`]: the types that `--json` prints, documented in `docs/src/cli-json.md`.
//! - [`output`], [`text`], [`failure`], [`verbosity`], [`help`]: standard output, number formats, error messages, logging,
//!   and the overview that `cvmfs-prefetch --help` prints.
//!
//! The library exists for the example `generate`, which writes man pages and shell completions from [`command`].

// Everything is printed through `output`, which does not panic when nobody reads it.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod build_args;
mod commands;
mod daemon_args;
mod failure;
mod file_kind;
mod help;
mod json;
mod output;
mod recording;
mod registry_args;
mod repository_args;
mod request;
#[cfg(test)]
mod test_traces;
mod text;
mod verbosity;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser};

use commands::Command;
use output::Output;
use verbosity::Verbosity;

/// Record what containers from CVMFS read, and prefetch it before the next start
///
/// On a build node, `record` runs an image and writes a trace of the files it uses; `bundle build` makes a bundle of one or
/// more traces, and `bundle push` publishes it. On a worker node, the daemon cvmfs-prefetchd fetches the objects of a bundle
/// into the CVMFS cache; `prefetch` sends it a request.
#[derive(Parser)]
#[command(name = "cvmfs-prefetch", version, max_term_width = 100, subcommand_required = true)]
struct Arguments {
    #[command(flatten)]
    verbosity: Verbosity,
    #[command(subcommand)]
    command: Command,
}

/// The definition of the command line, with all subcommands.
pub fn command() -> clap::Command {
    help::with_roles(Arguments::command())
}

/// Runs the command line and returns the exit code of the process.
pub fn main() -> ExitCode {
    let parsed = command().try_get_matches().and_then(|matches| Arguments::from_arg_matches(&matches));
    let arguments = parsed.unwrap_or_else(|error| error.exit());
    arguments.verbosity.start_logging();
    let failure_code = arguments.command.failure_code();
    let mut out = Output::new(arguments.verbosity.is_quiet());
    let result = node::runtime::start()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(arguments.command.run(&mut out)));
    match result {
        Ok(code) => code,
        // `cvmfs-prefetch ... | head` has all it wants.
        Err(error) if error.is::<output::Closed>() => ExitCode::SUCCESS,
        Err(error) => {
            failure::print(&error);
            failure_code
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const UNIT: &str = include_str!("../../deploy/systemd/cvmfs-prefetch-watch.service");
    const ENVIRONMENT: &str = include_str!("../../deploy/systemd/watch.env");

    fn parse(words: &[&str]) -> Result<Arguments, clap::Error> {
        command().try_get_matches_from(words).and_then(|matches| Arguments::from_arg_matches(&matches))
    }

    /// The unit's command line, with `options` for its variable.
    fn unit_command(options: &str) -> Vec<&str> {
        let line = UNIT.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/bin/")).unwrap();
        let fill = |word| if word == "$WATCH_OPTIONS" { options } else { word };
        line.split(' ').map(fill).flat_map(str::split_whitespace).collect()
    }

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn the_systemd_unit_and_its_examples_parse() {
        let examples =
            ENVIRONMENT.lines().filter_map(|line| line.trim_start_matches('#').strip_prefix("WATCH_OPTIONS="));
        let examples: Vec<_> = examples.map(|value| value.trim_matches('"')).collect();
        assert!(examples.len() > 3);
        for options in examples.into_iter().chain([""]) {
            let parsed = parse(&unit_command(options)).map_err(|error| error.to_string());
            assert!(matches!(parsed.unwrap().command, Command::Watch(_)), "{options}");
        }
        assert!(parse(&unit_command("--no-such-option")).is_err());
    }

    /// The commands without subcommands, each with its words.
    fn leaves(command: &clap::Command, path: &str) -> Vec<(String, clap::Command)> {
        let name = format!("{path}{}", command.get_name());
        let below: Vec<_> = command
            .get_subcommands()
            .filter(|sub| sub.get_name() != "help")
            .flat_map(|sub| leaves(sub, &format!("{name} ")))
            .collect();
        if below.is_empty() { vec![(name, command.clone())] } else { below }
    }

    /// The words of an example as a shell splits them: quotes hold words together, a comment ends the line.
    fn shell_words(line: &str) -> Vec<String> {
        let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
        for c in line.chars() {
            match (quote, c) {
                (None, '\'' | '"') => {
                    quote = Some(c);
                    word.get_or_insert_default();
                }
                (Some(open), _) if c == open => quote = None,
                (None, ' ') => words.extend(word.take()),
                (None, '#') if word.is_none() => break,
                _ => word.get_or_insert_default().push(c),
            }
        }
        words.extend(word);
        words
    }

    #[test]
    fn every_command_has_examples_that_parse() {
        for (name, command) in leaves(&command(), "") {
            let help = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
            let examples: Vec<_> = help
                .replace("\\\n", "")
                .lines()
                .map(str::trim)
                .filter(|line| line.starts_with("cvmfs-prefetch "))
                .map(shell_words)
                .collect();
            assert!(help.contains("Examples:") && !examples.is_empty(), "{name} has no examples");
            for words in examples {
                // As a shell does: what follows a pipe is another program, and a pattern matches several files.
                let words: Vec<_> = words
                    .iter()
                    .take_while(|word| *word != "|")
                    .flat_map(|word| {
                        let files = if word.contains('*') { ["1", "2"].as_slice() } else { &[""] };
                        files.iter().map(|number| word.replace('*', number))
                    })
                    .collect();
                let words: Vec<_> = words.iter().map(String::as_str).collect();
                assert!(words.join(" ").starts_with(&name), "{name}: {words:?} is an example of another command");
                let parsed = parse(&words).map(drop).map_err(|error| error.to_string());
                assert_eq!(parsed, Ok(()), "{name}: {words:?}");
            }
        }
    }

    #[test]
    fn every_command_and_flag_has_a_help_text() {
        for (name, command) in leaves(&command(), "") {
            assert!(command.get_about().is_some(), "{name}");
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{name}: {}", argument.get_id());
            }
        }
    }

    #[test]
    fn every_command_that_prints_a_result_prints_json() {
        // This one writes the trace itself, in the format that `--format` names.
        let others = ["cvmfs-prefetch trace export"];
        for (name, command) in leaves(&command(), "") {
            let json = command.get_arguments().any(|argument| argument.get_long() == Some("json"));
            assert!(json != others.contains(&name.as_str()), "{name}");
        }
    }
}
