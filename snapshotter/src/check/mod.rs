//! `cvmfs-prefetch-snapshotter check`: what this node lacks for the snapshotter to work. Changes nothing.

mod diff_ids;
mod file_systems;

use std::fmt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use api::client::Client;
use node::cvmfs_client::parameters::ClientConfiguration;
use node::mount::{Call, Mount, MountError};
use serde::Serialize;

use crate::config::{Config, Repository};
use crate::containerd;

/// Timeout of each check.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Interval at which a running program is polled.
const PAUSE: Duration = Duration::from_millis(20);

/// The result of one check. Its JSON is part of the command line's interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was checked.
    pub subject: String,
    /// Whether the check passed.
    pub ok: bool,
    /// What was found; if the check failed, also what to do.
    pub message: String,
}

impl Finding {
    fn new(subject: impl Into<String>, result: Result<String>) -> Self {
        let ok = result.is_ok();
        let message = result.unwrap_or_else(|error| format!("{error:#}"));
        Self { subject: subject.into(), ok, message }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.ok { "ok  " } else { "FAIL" };
        write!(f, "{verdict}  {}: {}", self.subject, self.message)
    }
}

/// Runs all checks. `containerd_config` is containerd's configuration file, `client_config` the directory of the CVMFS
/// client's configuration.
pub async fn check(config: &Config, containerd_config: &Path, client_config: &Path) -> Vec<Finding> {
    let client = ClientConfiguration::at(client_config, TIMEOUT);
    let mut findings = vec![
        Finding::new(
            format!("containerd's configuration {}", containerd_config.display()),
            check_containerd(config, containerd_config),
        ),
        Finding::new(format!("socket {}", config.socket.display()), check_socket(config)),
    ];
    for repository in &config.repositories {
        let name = &repository.name;
        let mounted = Finding::new(format!("repository {name}"), check_mount(repository).await);
        let is_mounted = mounted.ok;
        findings.push(mounted);
        if is_mounted {
            let stated = diff_ids::check(repository, config.unverified_layers).await;
            findings.push(Finding::new(format!("diff IDs in {name}"), stated));
            let subject = format!("overlayfs on {}", repository.mount.display());
            findings.push(Finding::new(subject, check_overlay(config, repository)));
        }
        let result = file_systems::check(&config.root, name, &client);
        findings.push(Finding::new(format!("file systems for {name}"), result));
    }
    if config.repositories.is_empty() {
        let result = Err(anyhow!("no [[repositories]] configured: every layer will be downloaded and unpacked"));
        findings.push(Finding::new("repositories", result));
    }
    findings.push(check_daemon(config).await);
    findings
}

fn check_containerd(config: &Config, path: &Path) -> Result<String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| anyhow!("{error}; give containerd's configuration file with --containerd-config"))?;
    let problems = containerd::problems(&text, &config.socket);
    ensure!(problems.is_empty(), "{}", problems.join("; "));
    Ok("uses this snapshotter".to_owned())
}

fn check_socket(config: &Config) -> Result<String> {
    std::os::unix::net::UnixStream::connect(&config.socket)
        .map_err(|error| anyhow!("{error}; start cvmfs-prefetch-snapshotter, or read its log"))?;
    Ok("a process is listening".to_owned())
}

async fn check_mount(repository: &Repository) -> Result<String> {
    let layers = repository.mount.join(".layers").display().to_string();
    let name = &repository.name;
    let read = |call: &Call| Ok(std::fs::metadata(call.root().join(".layers"))?.is_dir());
    let is_directory = Mount::new(&repository.mount).run(TIMEOUT, read).await.map_err(|error| match error {
        MountError::Io { source, .. } => anyhow!(
            "{layers}: {source}; mount the repository (`cvmfs_config probe {name}`), which must have container layers"
        ),
        hung => anyhow!("{hung}; run `cvmfs_config probe {name}`"),
    })?;
    ensure!(is_directory, "{layers} is not a directory: the repository has no container layers");
    // The second half is not checked: it is so for all publishers of layers.
    Ok(format!(
        "mounted at {}, has layers (published without extended attributes and file capabilities, hard links as separate files)",
        repository.mount.display()
    ))
}

/// Mounts an overlay in a mount namespace that ends with the mounting program.
fn check_overlay(config: &Config, repository: &Repository) -> Result<String> {
    let directory = tempfile::Builder::new().prefix(".check").tempdir_in(&config.root);
    let directory = directory
        .map_err(|error| anyhow!("cannot write below {}: {error}; run the check as root", config.root.display()))?;
    let at = |name: &str| directory.path().join(name);
    for name in ["upper", "work", "merged"] {
        std::fs::create_dir(at(name)).with_context(|| format!("cannot create {}", at(name).display()))?;
    }
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        repository.mount.display(),
        at("upper").display(),
        at("work").display()
    );
    let mut mount = Command::new("unshare");
    mount.args(["--mount", "--propagation", "private", "mount", "-t", "overlay", "overlay", "-o", &options]);
    run(mount.arg(at("merged")))
        .map_err(|error| anyhow!("{error}; `root` must be on a file system that overlayfs can write to (ext4, xfs)"))?;
    Ok("can be mounted".to_owned())
}

async fn check_daemon(config: &Config) -> Finding {
    let Some(socket) = &config.prefetch_socket else {
        let result = Err(anyhow!("`prefetch_socket` is not configured: nothing is prefetched"));
        return Finding::new("prefetch daemon", result);
    };
    let listed = Client::connect_lazy(socket).with_timeout(TIMEOUT).list().await;
    let result = listed.map(|list| format!("answers, stores {} bundles", list.bundles.len()));
    Finding::new(format!("prefetch daemon {}", socket.display()), result.map_err(Into::into))
}

/// Runs a program to its end, or kills it after the timeout.
fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.map_err(|error| anyhow!("cannot run {program}: {error}; install util-linux"))?;
    let end = Instant::now() + TIMEOUT;
    while child.try_wait()?.is_none() {
        if Instant::now() > end {
            // It may hang in the kernel, so its end is not waited for. An error means that it has just ended.
            let _ = child.kill();
            bail!("{program} did not end within {} s", TIMEOUT.as_secs());
        }
        std::thread::sleep(PAUSE);
    }
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
