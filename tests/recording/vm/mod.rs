//! A virtual machine that runs one program on a Debian kernel, so that the recorder is tested on other kernels than the host's.
//!
//! ```text
//! host                                 guest
//! kernel.rs     vmlinuz, modules       init.sh     loads the modules, mounts the file systems
//! initramfs.rs  packs them, init.sh,   command.sh  runs the program, reports, powers off
//!               command.sh, busybox
//! qemu.rs       / --9p, read-only-->   /           below an overlay in memory
//!               console <--ttyS0---    output of the kernel and the program
//!               report  <--ttyS1---    the kernel's release and the program's status, separate from all output
//! ```
//!
//! The guest has /dev, /proc, /sys, /run and version 2 cgroups at /sys/fs/cgroup, no network and no login. `TMPDIR` is on a
//! separate disk, because the rest is an overlay, which cannot hold the upper directory of another overlay.
//!
//! The CPU is emulated, because not every machine offers virtualisation. Booting takes about 10 s of CPU time, and programs
//! run at about a tenth of the host's speed.

mod initramfs;
pub(crate) mod kernel;
mod qemu;

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use initramfs::Program;
use kernel::Kernel;
use qemu::Qemu;
use tempfile::TempDir;

/// The output of a machine that has powered itself off.
#[derive(Debug)]
pub(crate) struct Output {
    /// The program's exit status as a shell reports it: above 128 for a signal.
    pub(crate) status: i32,
    /// Output of the kernel, and standard output and error of the program.
    pub(crate) console: String,
    /// The release of the guest's kernel, as `uname -r` prints it.
    pub(crate) kernel: String,
}

/// Runs `command` in a new machine with the kernel of a package. The command runs in this process's directory, with `PATH`,
/// `HOME`, `TMPDIR` and `environment` as its only variables. Fails, with the console's text, after `timeout`.
pub(crate) fn run(kernel: &str, command: &[&str], environment: &[(&str, &str)], timeout: Duration) -> Result<Output> {
    let kernel = Kernel::fetch(kernel)?;
    let scratch = TempDir::with_prefix("vm-")?;
    let program = Program { command, environment, directory: &std::env::current_dir()? };
    let packed = scratch.path().join("initramfs");
    fs::write(&packed, initramfs::pack(&kernel.modules()?, &program)?)?;

    let mut qemu = Qemu::start(&kernel.image(), &packed, scratch.path())?;
    let ended = qemu.wait(timeout);
    let console = text(&qemu.console())?;
    ended.with_context(|| format!("the virtual machine's console:\n{console}"))?;
    let report = text(&qemu.report())?;
    let Some((kernel, status)) = parse(&report) else {
        bail!("the virtual machine ended without a status ({report:?}); its console:\n{console}");
    };
    Ok(Output { status, console, kernel })
}

/// Reads the output of a serial port, without carriage returns.
fn text(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| path.display().to_string())?;
    Ok(String::from_utf8_lossy(&bytes).replace('\r', ""))
}

/// Parses the report that the script of `initramfs::Program` writes: kernel release and exit status.
fn parse(report: &str) -> Option<(String, i32)> {
    let (kernel, status) = report.trim_end().split_once('\n')?;
    Some((kernel.to_owned(), status.parse().ok()?))
}
