//! Runs all other tests of this target again on Debian's kernels, in a virtual machine. These kernels allow trampolines and
//! have version 2 cgroups only. 6.1 does not have the tracepoints of the page cache's readers yet; 6.12 does.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use testbed::requirement::Requirement;

use crate::vm::kernel;
use crate::{attach_fallback, test_container, vm};

/// Part of the names of the tests in this file, which must not run in the virtual machine.
const ON_OTHER_KERNELS: &str = "all_recording_tests_pass_on";

#[test]
fn all_recording_tests_pass_on_debians_default_kernel() -> Result<()> {
    run_all_on(kernel::DEFAULT)
}

#[test]
fn all_recording_tests_pass_on_debians_linux_6_12() -> Result<()> {
    run_all_on(kernel::NEWER)
}

fn run_all_on(package: &str) -> Result<()> {
    if !kernel::is_available(package) {
        return Requirement::DebianKernels
            .missing(&format!("this is not a Debian on x86_64 with the package {package}"));
    }
    // Compiling these in the virtual machine would take longer than everything else.
    test_container::uses()?;
    attach_fallback::filler_program()?;
    let program = std::env::current_exe()?;
    let program = program.to_str().context("a path in UTF-8")?;
    let command = [program, "--test-threads=1", "--skip", ON_OTHER_KERNELS];
    let output = vm::run(package, &command, &[("RUST_BACKTRACE", "0")], Duration::from_secs(1200))?;
    let passed = output.status == 0 && output.console.contains("test result: ok.");
    ensure!(passed, "on Linux {}:\n{}", output.kernel, output.console);
    println!("all tests passed on Linux {}", output.kernel);
    Ok(())
}
