//! Measures the memory of the recorder's process.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use bundles::trace::End;
use tracer_ebpf::Options;

use crate::jobs;
use crate::test_container::{TestContainer, run};

const FILES: usize = 1_000_000;
const LIMIT_MIB: u64 = 64;

/// Runs [`record`] in a separate process and prints its result. Returns whether the limit holds.
pub(crate) fn report() -> Result<bool> {
    let output = Command::new(std::env::current_exe()?).args(["memory", &FILES.to_string()]).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    let numbers: Vec<u64> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    let &[kib, files, lost] = &numbers[..] else { anyhow::bail!("unexpected: {text}") };
    let mib = kib / 1024;
    let good = mib < LIMIT_MIB && lost == 0 && files as usize >= FILES;
    let verdict = if good { "ok" } else { "NOT ok" };
    println!(
        "| memory of the recorder, {files} different files | | {mib} MiB | | {LIMIT_MIB} MiB | {lost} | {verdict} |"
    );
    Ok(good)
}

/// Records the use of `files` different files. Prints the peak memory of the process in KiB, the number of recorded files, and
/// the lost events.
pub(crate) fn record(files: usize) -> Result<()> {
    let container = TestContainer::with_host_root()?;
    let scratch = tempfile::tempdir()?;
    let directory = scratch.path().join("files");
    jobs::files(&directory, files)?;
    let recorded = container.record(Options::default())?;
    let program = std::env::current_exe()?;
    let words = [program, "opens".into(), directory, files.to_string().into()] as [PathBuf; 4];
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    run(container.command(&[], &words.iter().map(AsRef::as_ref).collect::<Vec<_>>()))?;
    let path = recorded.trace.clone();
    recorded.recording.stop(End::Exited(0))?;
    let status = fs::read_to_string("/proc/self/status")?;
    let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM")?;
    let most = most.trim().trim_end_matches(" kB").to_owned();
    // Read after the measurement: the recorder does not read traces.
    let trace = bundles::trace::Trace::read(&path)?;
    println!("{most} {} {}", trace.files.len(), trace.losses.total());
    Ok(())
}
