//! The outer process: creates the namespaces with unshare(1) and waits for their end.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result, ensure};

use super::leftovers;
use super::run::{DIRECTORY_VARIABLE, ROLE_VARIABLE, Role, Run};

/// Destination of the run's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Output {
    /// Our own output.
    Inherited,
    /// `print!`, which libtest shows only for failed tests.
    Captured,
}

const NAMESPACES: [&str; 9] =
    ["--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child", "--mount-proc", "--propagation", "private"];

/// Runs this executable with `arguments` as init of new namespaces and waits for its end.
pub(super) fn run(arguments: &[OsString], output: Output) -> Result<ExitStatus> {
    ensure!(nix::unistd::geteuid().is_root(), "root is needed: a site creates namespaces and mounts");
    leftovers::sweep();
    let (run, _lock) = Run::create()?;
    let mut command = Command::new("unshare");
    command.args(NAMESPACES).arg("--").arg(std::env::current_exe()?).args(arguments);
    command.env(ROLE_VARIABLE, Role::Init.name()).env(DIRECTORY_VARIABLE, run.directory());
    // The lifeline: only this process holds its other end, so it breaks when this process ends for any reason.
    command.stdin(Stdio::piped());
    let status = wait(command, output)?;
    // Init has done this unless it was killed.
    leftovers::remove_cgroups(&run.name());
    leftovers::remove_directory(run.directory());
    if !status.success() {
        probe()?;
    }
    Ok(status)
}

fn wait(mut command: Command, output: Output) -> Result<ExitStatus> {
    const MISSING: &str = "cannot run unshare(1): is util-linux installed?";
    if output == Output::Inherited {
        // Not status(), which would close the lifeline before it waits.
        let mut child = command.spawn().context(MISSING)?;
        let lifeline = child.stdin.take();
        let status = child.wait()?;
        drop(lifeline);
        return Ok(status);
    }
    let (reader, writer) = std::io::pipe()?;
    command.stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn().context(MISSING)?;
    let lifeline = child.stdin.take();
    drop(command);
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        print!("{}", String::from_utf8_lossy(&line));
        line.clear();
    }
    let status = child.wait()?;
    drop(lifeline);
    Ok(status)
}

/// Distinguishes a machine that refuses namespaces from a failed test.
fn probe() -> Result<()> {
    let output = Command::new("unshare").args(NAMESPACES).args(["--", "true"]).output()?;
    ensure!(
        output.status.success(),
        "this machine refuses new PID, mount, IPC and UTS namespaces (all capabilities are needed):\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
