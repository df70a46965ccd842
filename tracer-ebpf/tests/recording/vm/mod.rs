//! A virtual machine that runs one program on a kernel of Debian's, so that the recorder meets others than the host's.
//!
//! ```text
//! host                                 guest
//! kernel.rs     vmlinuz, modules       init.sh     loads the modules, mounts what a system needs
//! initramfs.rs  packs them, init.sh,   command.sh  runs the program, reports, powers off
//!               command.sh, busybox
//! qemu.rs       / --9p, read-only-->   /           below an overlay in memory
//!               console <--ttyS0---    what the kernel and the program say
//!               report  <--ttyS1---    the kernel's release and the program's status, which no output can forge
//! ```
//!
//! The guest has /dev, /proc, /sys, /run and version 2 cgroups at /sys/fs/cgroup, no network and no login. `TMPDIR` is
//! on a disk of its own: the rest is an overlay, on which no other overlay can keep its upper directory.
//!
//! The processor is emulated, because virtualisation is not to be had everywhere. Booting takes about 10 s of a core,
//! and programs run at about a tenth of the host's speed.

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

/// What is left of a machine that has powered itself off.
#[derive(Debug)]
pub(crate) struct Output {
    /// The program's exit status, as a shell has it: more than 128 for a signal.
    pub(crate) status: i32,
    /// What the kernel and the program wrote, both outputs of it.
    pub(crate) console: String,
    /// The release of the kernel that ran.
    pub(crate) kernel: String,
}

/// Runs `command` in a machine of its own with the kernel of a package, in this process's directory, with `environment` and else only `PATH`, `HOME`
/// and `TMPDIR`. It is an error, which shows the console, if that is not done within `limit`.
pub(crate) fn run(kernel: &str, command: &[&str], environment: &[(&str, &str)], limit: Duration) -> Result<Output> {
    let kernel = Kernel::fetch(kernel)?;
    let scratch = TempDir::with_prefix("vm-")?;
    let program = Program { command, environment, directory: &std::env::current_dir()? };
    let packed = scratch.path().join("initramfs");
    fs::write(&packed, initramfs::pack(&kernel.modules()?, &program)?)?;

    let mut qemu = Qemu::start(&kernel.image(), &packed, scratch.path())?;
    let ended = qemu.wait(limit);
    let console = text(&qemu.console())?;
    ended.with_context(|| format!("the virtual machine's console:\n{console}"))?;
    let report = text(&qemu.report())?;
    let Some((kernel, status)) = parse(&report) else {
        bail!("the virtual machine ended without a status ({report:?}); its console:\n{console}");
    };
    Ok(Output { status, console, kernel })
}

/// What was written to a serial line, which ends lines as a typewriter does.
fn text(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| path.display().to_string())?;
    Ok(String::from_utf8_lossy(&bytes).replace('\r', ""))
}

/// The report is what the script of `initramfs::Program` writes.
fn parse(report: &str) -> Option<(String, i32)> {
    let (kernel, status) = report.trim_end().split_once('\n')?;
    Some((kernel.to_owned(), status.parse().ok()?))
}
