//! What this node lacks for the plugin to work: `cvmfs-prefetch-snapshotter check`. Changes nothing.

mod file_systems;

use std::fmt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use prefetcher::client::Client;
use prefetcher::cvmfs_client::deadline::within;
use prefetcher::cvmfs_client::parameters::ClientConfiguration;
use serde::Serialize;

use crate::config::{Config, Repository};
use crate::containerd;

/// How long each look may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks at a program that runs.
const PAUSE: Duration = Duration::from_millis(20);

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What.
    pub subject: String,
    /// Whether it is as it should be.
    pub ok: bool,
    /// What was found; if it is not as it should be, what to do.
    pub told: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}  {}: {}", if self.ok { "ok  " } else { "FAIL" }, self.subject, self.told)
    }
}

/// Looks at everything. `containerd` is containerd's configuration file, `client` the directory of the CVMFS client's.
pub async fn check(config: &Config, containerd: &Path, client: &Path) -> Vec<Finding> {
    let client = ClientConfiguration::at(client, PATIENCE);
    let mut findings = vec![of_containerd(config, containerd), of_socket(config)];
    for repository in &config.repositories {
        let mounted = of_repository(repository);
        let is_mounted = mounted.ok;
        findings.push(mounted);
        if is_mounted {
            findings.push(of_overlay(config, repository));
            findings.push(of_layers(repository));
        }
        let shared = file_systems::look(&config.root, &repository.name, &client);
        findings.push(finding(format!("file systems for {}", repository.name), shared));
    }
    if config.repositories.is_empty() {
        findings
            .push(finding("repositories", Err("none is configured: add [[repositories]]; now all is unpacked".into())));
    }
    findings.push(of_daemon(config).await);
    findings
}

fn finding(subject: impl Into<String>, result: Result<String, String>) -> Finding {
    let ok = result.is_ok();
    Finding { subject: subject.into(), ok, told: result.unwrap_or_else(|problem| problem) }
}

fn of_containerd(config: &Config, path: &Path) -> Finding {
    let result = match std::fs::read_to_string(path) {
        Err(error) => Err(format!("{error}: give containerd's configuration file with --containerd-config")),
        Ok(text) => match containerd::problems(&text, &config.socket).as_slice() {
            [] => Ok("it uses this plugin".to_owned()),
            problems => Err(problems.join("; ")),
        },
    };
    finding(format!("containerd's configuration {}", path.display()), result)
}

fn of_socket(config: &Config) -> Finding {
    let socket = &config.socket;
    let result = match std::os::unix::net::UnixStream::connect(socket) {
        Ok(_) => Ok("somebody listens".to_owned()),
        Err(error) => Err(format!("{error}: start cvmfs-prefetch-snapshotter, or look into its log")),
    };
    finding(format!("socket {}", socket.display()), result)
}

fn of_repository(repository: &Repository) -> Finding {
    let layers = repository.mount.join(".layers");
    let shown = layers.display().to_string();
    let looked = within(PATIENCE, &shown, move || std::fs::metadata(&layers).map(|found| found.is_dir()));
    let result = match looked {
        Err(why) => Err(format!("{why}: the mount hangs; see cvmfs_config probe {}", repository.name)),
        Ok(Err(error)) => Err(format!(
            "{shown}: {error}: mount the repository (cvmfs_config probe {}), one of container layers",
            repository.name
        )),
        Ok(Ok(false)) => Err(format!("{shown} is no directory: this is no repository of container layers")),
        Ok(Ok(true)) => Ok(format!("mounted at {}, with layers", repository.mount.display())),
    };
    finding(format!("repository {}", repository.name), result)
}

/// Mounts an overlay in a mount namespace that ends with it.
fn of_overlay(config: &Config, repository: &Repository) -> Finding {
    let subject = format!("overlayfs over {}", repository.mount.display());
    let directory = match tempfile::Builder::new().prefix(".check").tempdir_in(&config.root) {
        Ok(directory) => directory,
        Err(error) => {
            let problem = format!("cannot write below {}: {error}: run this as root", config.root.display());
            return finding(subject, Err(problem));
        }
    };
    let at = |name: &str| directory.path().join(name);
    let made = ["upper", "work", "merged"].iter().try_for_each(|name| std::fs::create_dir(at(name)));
    let result = made.map_err(|error| error.to_string()).and_then(|()| {
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            repository.mount.display(),
            at("upper").display(),
            at("work").display()
        );
        let mut mount = Command::new("unshare");
        mount.args(["--mount", "--propagation", "private", "mount", "-t", "overlay", "overlay", "-o", &options]);
        run(mount.arg(at("merged")))
    });
    let told = result.map(|()| "can be mounted".to_owned());
    finding(
        subject,
        told.map_err(|why| format!("{why}: `root` must be on a file system that overlayfs can write to (ext4, xfs)")),
    )
}

fn of_layers(repository: &Repository) -> Finding {
    // Not by looking: it is so with all publishers of layers.
    finding(
        format!("layers of {}", repository.name),
        Ok("as published: no extended attributes (file capabilities), hard links are separate files; docs/src/snapshotter.md".into()),
    )
}

async fn of_daemon(config: &Config) -> Finding {
    let Some(socket) = &config.prefetch_socket else {
        return finding("prefetch daemon", Err("no prefetch_socket is configured: nothing is prefetched".into()));
    };
    let bundles = Client::connect_lazy(socket).with_deadline(PATIENCE).list().await;
    let result = bundles.map(|list| format!("answers, has {} bundles", list.bundles.len())).map_err(|e| e.to_string());
    finding(format!("prefetch daemon {}", socket.display()), result)
}

/// Runs a program to its end, or kills it when that takes too long.
fn run(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.map_err(|error| format!("{program}: {error}: install util-linux"))?;
    let end = Instant::now() + PATIENCE;
    while child.try_wait().map_err(|error| error.to_string())?.is_none() {
        if Instant::now() > end {
            // It may hang in the kernel, so its end is not waited for.
            let _ = child.kill();
            return Err(format!("{program} did not end within {} s", PATIENCE.as_secs()));
        }
        std::thread::sleep(PAUSE);
    }
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}
