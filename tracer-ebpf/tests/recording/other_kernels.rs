//! All tests of this crate's recorder again, on Debian's kernels. There trampolines are allowed, and cgroups have version 2
//! only; 6.1 has not yet the tracepoints of the page cache's readers, which 6.12 has.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::vm::kernel;
use crate::{crowded, site, vm};

#[test]
fn all_of_this_holds_on_an_older_kernel() -> Result<()> {
    all_on(kernel::DEFAULT)
}

#[test]
fn all_of_this_holds_on_a_newer_kernel_with_trampolines() -> Result<()> {
    all_on(kernel::NEWER)
}

fn all_on(package: &str) -> Result<()> {
    if !kernel::is_to_be_had(package) {
        println!("not run: this is no Debian on x86_64 that has {package}");
        return Ok(());
    }
    // There, compiling them would take longer than everything else.
    site::uses()?;
    crowded::program()?;
    let program = std::env::current_exe()?;
    let program = program.to_str().context("a path in UTF-8")?;
    let command = [program, "--test-threads=1", "--skip", "all_of_this_holds_on"];
    let output = vm::run(package, &command, &[("RUST_BACKTRACE", "0")], Duration::from_secs(1200))?;
    let (kernel, console) = (output.kernel, output.console);
    ensure!(output.status == 0 && console.contains("test result: ok."), "on Linux {kernel}:\n{console}");
    println!("all tests passed on Linux {kernel}");
    Ok(())
}
