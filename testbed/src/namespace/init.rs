//! Process 1 of the namespaces: starts the body, reaps orphans, and cleans up at the end.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::leftovers;
use super::run::{ROLE_VARIABLE, Role, Run};

/// containerd keeps its shims' sockets, FIFOs and runc's state here, regardless of its configuration.
const CONTAINERD_STATE: &str = "/run/containerd";
/// How long killed processes may take to end.
const KILL_TIMEOUT: Duration = Duration::from_secs(20);

/// Runs the body to its end and ends this process with its status; returns only if the body cannot be started.
pub(super) fn run() -> Result<()> {
    let run = Run::current()?;
    let _lock = run.lock()?;
    std::fs::create_dir_all(CONTAINERD_STATE)?;
    mount(Some("tmpfs"), CONTAINERD_STATE, Some("tmpfs"), MsFlags::empty(), Some("mode=711"))
        .with_context(|| format!("cannot mount a tmpfs on {CONTAINERD_STATE}"))?;

    let mut body = Command::new(std::env::current_exe()?);
    body.args(std::env::args_os().skip(1)).env(ROLE_VARIABLE, Role::Body.name()).stdin(Stdio::null());
    let body = Pid::from_raw(body.spawn().context("cannot start the body")?.id() as i32);
    std::thread::spawn(move || {
        // Nothing is ever written to the lifeline: the end of the file is the end of the outer process.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        let _ = kill(body, Signal::SIGKILL);
    });
    let status = reap_until(body)?;
    end_all_processes();
    leftovers::unmount_below(run.directory());
    leftovers::remove_cgroups(&run.name());
    leftovers::remove_directory(run.directory());
    std::process::exit(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)));
}

/// Reaps children, own and adopted, until `body` has ended.
fn reap_until(body: Pid) -> Result<ExitStatus> {
    loop {
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, code)) if pid == body => return Ok(ExitStatus::from_raw(code << 8)),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == body => return Ok(ExitStatus::from_raw(signal as i32)),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno).context("cannot wait for the body"),
        }
    }
}

fn end_all_processes() {
    let end = Instant::now() + KILL_TIMEOUT;
    // Every process of the namespace except ourselves; repeated, because one may just have forked.
    while Instant::now() < end {
        let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Err(Errno::ECHILD) => return,
            Ok(WaitStatus::StillAlive) => std::thread::sleep(Duration::from_millis(2)),
            _ => {}
        }
    }
    eprintln!("testbed: some processes could not be killed; they end with their namespace");
}
