//! Child processes and the workspace's programs.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A daemon of the site. Its output goes to a log file; it is stopped when dropped.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts `command`, with its output appended to `<log_directory>/<name>.log`.
    pub fn start(name: &str, command: &mut Command, log_directory: &Path) -> Result<Self> {
        std::fs::create_dir_all(log_directory)?;
        let log = log_directory.join(format!("{name}.log"));
        let output = File::options().create(true).append(true).open(&log)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = command.spawn().with_context(|| format!("cannot start {name} ({command:?})"))?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// The process ID.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The log's text so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Polls `ready` until it returns true; fails with the log if the daemon exits first or `limit` passes.
    pub fn wait_until(&mut self, what: &str, limit: Duration, mut ready: impl FnMut() -> bool) -> Result<()> {
        let end = Instant::now() + limit;
        while !ready() {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended with {status} before {what}; its log:\n{}", self.name, self.log());
            }
            if Instant::now() > end {
                bail!("{} did not reach {what} within {limit:?}; its log:\n{}", self.name, self.log());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Kills the process with SIGKILL, as a crash would.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        self.child.kill()?;
        Ok(self.child.wait()?)
    }

    /// Sends SIGTERM and waits; kills the process after `limit`.
    pub fn stop(&mut self, limit: Duration) -> Result<ExitStatus> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM)?;
        let end = Instant::now() + limit;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.kill()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Err(error) = self.stop(Duration::from_secs(5)) {
            tracing::warn!(name = self.name, %error, "daemon could not be stopped");
        }
    }
}

/// Processor time of a process and its reaped children so far, with a resolution of 10 ms.
pub fn processor_time(pid: u32) -> Result<Duration> {
    const TICK: Duration = Duration::from_millis(10);
    let path = format!("/proc/{pid}/stat");
    let stat = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    // After the name, which may contain anything: state and ten more fields, then user and system time, own and children's.
    let (_, fields) = stat.rsplit_once(") ").with_context(|| format!("no name in {path}"))?;
    let ticks = fields.split(' ').skip(11).take(4).map(str::parse::<u32>).sum::<Result<u32, _>>()?;
    Ok(ticks * TICK)
}

/// Runs a program and returns its standard output; fails with its standard error.
pub fn run(program: impl AsRef<OsStr>, arguments: &[&str]) -> Result<String> {
    run_command(Command::new(program).args(arguments))
}

/// Runs a command and returns its standard output; fails with its standard error.
pub fn run_command(command: &mut Command) -> Result<String> {
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {command:?}: is it installed?"))?;
    if !output.status.success() {
        bail!("{command:?} ended with {}:\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The built program `name` of this workspace: beside the running executable or, because cargo puts tests one level deeper, in
/// its parent directory.
pub fn binary(name: &str) -> Result<PathBuf> {
    let executable = std::env::current_exe()?;
    let found =
        executable.ancestors().skip(1).take(2).map(|directory| directory.join(name)).find(|path| path.is_file());
    found.with_context(|| {
        format!("no program {name} beside {}: build the workspace first (`make build`)", executable.display())
    })
}
