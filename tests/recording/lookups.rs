//! Absent paths and listed directories are recorded on request only.

use anyhow::{Result, ensure};
use bundles::trace::{Lookup, Trace};
use tracer_ebpf::Options;

use crate::test_container::{TestContainer, write};

fn under_app(lookups: &[Lookup]) -> Vec<String> {
    let paths = lookups.iter().map(|lookup| lookup.path.to_string());
    paths.filter(|path| path.starts_with("/app")).collect()
}

fn record(options: Options) -> Result<Trace> {
    let container = TestContainer::new(|root| write(root, &[("app/one", "1"), ("app/sub/two", "2")]))?;
    let script =
        "cd /app; [ -e none ]; [ -e /app/sub/../gone ]; [ -e none ]; read x < missing; echo sub/* > /dev/null; true";
    container.record_command_with(options, &["/bin/bash", "-c", script])
}

#[test]
fn lookups_are_recorded_once_each_and_in_order() -> Result<()> {
    let trace = record(Options { absent_paths: true, listed_directories: true, ..Options::default() })?;
    assert_eq!(under_app(&trace.absent), ["/app/none", "/app/gone", "/app/missing"]);
    assert_eq!(under_app(&trace.directories), ["/app/sub"]);
    ensure!(trace.absent.iter().all(|lookup| lookup.process.name == "bash"), "{:?}", trace.absent);
    Ok(())
}

#[test]
fn lookups_are_not_recorded_by_default() -> Result<()> {
    let trace = record(Options::default())?;
    ensure!(trace.absent.is_empty() && trace.directories.is_empty());
    let absent = record(Options { absent_paths: true, ..Options::default() })?;
    ensure!(!absent.absent.is_empty() && absent.directories.is_empty());
    Ok(())
}
