//! Paths that do not exist and directories that are listed: only when asked for.

use anyhow::{Result, ensure};
use bundles::trace::{Lookup, Trace};
use tracer_ebpf::Options;

use crate::site::{Site, write};

fn under_app(lookups: &[Lookup]) -> Vec<String> {
    let paths = lookups.iter().map(|lookup| lookup.path.to_string());
    paths.filter(|path| path.starts_with("/app")).collect()
}

fn record(options: Options) -> Result<Trace> {
    let site = Site::new(|root| write(root, &[("app/one", "1"), ("app/sub/two", "2")]))?;
    let script =
        "cd /app; [ -e none ]; [ -e /app/sub/../gone ]; [ -e none ]; read x < missing; echo sub/* > /dev/null; true";
    site.record_command_with(options, &["/bin/bash", "-c", script])
}

#[test]
fn they_are_told_each_once_and_in_order() -> Result<()> {
    let trace = record(Options { absent: true, directories: true, ..Options::default() })?;
    assert_eq!(under_app(&trace.absent), ["/app/none", "/app/gone", "/app/missing"]);
    assert_eq!(under_app(&trace.directories), ["/app/sub"]);
    ensure!(trace.absent.iter().all(|lookup| lookup.process.name == "bash"), "{:?}", trace.absent);
    Ok(())
}

#[test]
fn they_are_not_told_unasked() -> Result<()> {
    let trace = record(Options::default())?;
    ensure!(trace.absent.is_empty() && trace.directories.is_empty());
    let absent = record(Options { absent: true, ..Options::default() })?;
    ensure!(!absent.absent.is_empty() && absent.directories.is_empty());
    Ok(())
}
