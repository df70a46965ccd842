//! `docs/src/cli-options.md` is what `--help` prints. To write it anew, set `UPDATE_DOCS=1`.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use clap::Command;
use regex::Regex;

const HEAD: &str = "\
# Options of the command line

<!-- Written by cli/tests/options.rs. -->

This is what `cvmfs-prefetch COMMAND --help` prints, without the global options for each command.
[Command line](cli.md) has an overview, and [JSON output](cli-json.md) describes what `--json`
prints.
";
/// Columns that fit into a page of the book.
const WIDTH: usize = 96;

/// Appends the help of `command`, whose full name is `name`, and of its subcommands.
fn section(command: &mut Command, name: &str, page: &mut String) {
    let help = command.render_long_help().to_string();
    let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
    let mut help = lines.join("\n").trim_end().to_owned();
    // The values of variables belong to whoever runs this.
    help = Regex::new(r"\[env: ([A-Z_]+)=[^\]]*\]").unwrap().replace_all(&help, "[env: $1=]").into_owned();
    if name.contains(' ') {
        let global = Regex::new(r"\n\nGlobal options:\n(?s:.*?)(\n\n\S|$)").unwrap();
        help = global.replace(&help, "$1").into_owned();
        let print_help = Regex::new(r"\n\n?  -h, --help\n          Print help[^\n]*").unwrap();
        help = print_help.replace(&help, "").into_owned();
    }
    page.push_str(&format!("\n## {name}\n\n```text\n{help}\n```\n"));
    for subcommand in command.get_subcommands_mut().filter(|subcommand| subcommand.get_name() != "help") {
        let name = format!("{name} {}", subcommand.get_name());
        section(subcommand, &name, page);
    }
}

#[test]
fn the_page_of_options_is_what_help_prints() {
    let mut command = cli::command().term_width(WIDTH);
    command.build();
    let mut page = HEAD.to_owned();
    section(&mut command, "cvmfs-prefetch", &mut page);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/src/cli-options.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap();
    let other = written.lines().zip(page.lines()).find(|(written, printed)| written != printed);
    assert_eq!(other, None, "run `UPDATE_DOCS=1 cargo test --workspace --test options`");
    assert_eq!(written, page);
}
