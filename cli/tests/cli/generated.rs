//! The man pages and shell completions that the example `generate` writes.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::PROGRAM;

/// The names of all man pages: one per command, `cvmfs-prefetch-bundle-build` and the like.
fn pages(command: &clap::Command, name: &str) -> Vec<String> {
    let below = command.get_subcommands().filter(|below| below.get_name() != "help");
    let below = below.flat_map(|below| pages(below, &format!("{name}-{}", below.get_name())));
    [name.to_owned()].into_iter().chain(below).collect()
}

#[test]
fn every_command_has_a_man_page_and_completions() {
    let example = Path::new(PROGRAM).with_file_name("examples").join("generate");
    assert!(example.exists(), "{} was not built: run `cargo test -p cli`", example.display());
    let directory = tempfile::tempdir().unwrap();
    assert!(Command::new(example).arg(directory.path()).status().unwrap().success());

    let pages = pages(&cli::command(), "cvmfs-prefetch");
    assert!(pages.len() > 30, "{pages:?}");
    for page in &pages {
        let path = directory.path().join("man").join(format!("{page}.1"));
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(text.contains(".SH SYNOPSIS"), "{page}:\n{text}");
    }
    let build = fs::read_to_string(directory.path().join("man/cvmfs-prefetch-bundle-build.1")).unwrap();
    assert!(build.contains("Examples:"), "{build}");

    for (file, flag) in [
        ("cvmfs-prefetch.bash", "--max-growth"),
        ("_cvmfs-prefetch", "--max-growth"),
        ("cvmfs-prefetch.fish", "max-growth"),
    ] {
        let text = fs::read_to_string(directory.path().join("completions").join(file)).unwrap();
        assert!(text.contains("check-growth") && text.contains(flag), "{file}");
    }
}
