//! All tests of this crate's recorder again, on Debian's 6.1 kernel: there trampolines are allowed, the tracepoints of the page
//! cache's readers are not there yet, and cgroups have version 2 only.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::{site, vm};

#[test]
fn all_of_this_holds_on_an_older_kernel() -> Result<()> {
    if !vm::kernel::is_to_be_had() {
        println!("not run: this is no Debian on x86_64");
        return Ok(());
    }
    // There, compiling it would take longer than everything else.
    site::uses()?;
    let program = std::env::current_exe()?;
    let program = program.to_str().context("a path in UTF-8")?;
    let command = [program, "--test-threads=1", "--skip", "all_of_this_holds_on_an_older_kernel"];
    let output = vm::run(&command, &[("RUST_BACKTRACE", "0")], Duration::from_secs(900))?;
    let (kernel, console) = (output.kernel, output.console);
    ensure!(output.status == 0 && console.contains("test result: ok."), "on Linux {kernel}:\n{console}");
    println!("all tests passed on Linux {kernel}");
    Ok(())
}
