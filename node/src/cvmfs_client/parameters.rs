//! A repository's parameters. Files are read in the client's order; later assignments win.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::changes::{Fingerprint, MAX_FILES};
use super::shell::{self, ShellError, Values};
use super::showconfig;
use crate::mount::{Mount, MountError};

/// Directory of the stock client's configuration. `cvmfs_config` reads no other, so it is run only for this one.
pub const STOCK_ROOT: &str = "/etc/cvmfs";

/// Directory of the client's configuration in the configuration repository.
const SHARED: &str = "etc/cvmfs";

/// Maximum size of a configuration file.
const MAX_FILE: u64 = 1 << 20;

/// A name for `cvmfs_config` when what it prints for every repository is of interest.
const ANY_REPOSITORY: &str = "any.invalid";

/// Why the parameters cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ParametersError {
    /// No client is configured on this node.
    #[error("{0} does not exist; no CVMFS client is configured there")]
    Absent(PathBuf),
    /// A file has a line that only a shell could execute.
    #[error(transparent)]
    Shell(#[from] ShellError),
    /// The configuration repository does not respond.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// A file or directory cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// A file is too large for a configuration.
    #[error("{0} has more than {MAX_FILE} bytes")]
    TooLarge(PathBuf),
}

/// The configuration of the node's client.
#[derive(Debug, Clone)]
pub struct ClientConfiguration {
    root: PathBuf,
    program: Option<PathBuf>,
    timeout: Duration,
    extended_until: Instant,
    /// The configuration repository that the parameters named last.
    config_repository: Arc<Mutex<Option<Mount>>>,
}

impl ClientConfiguration {
    /// The configuration in `root`. `timeout` is that of every program and mount that is queried.
    pub fn at(root: &Path, timeout: Duration) -> Self {
        let program = (root == Path::new(STOCK_ROOT)).then(showconfig::program).flatten();
        Self {
            root: root.to_owned(),
            program,
            timeout,
            extended_until: Instant::now(),
            config_repository: Arc::default(),
        }
    }

    /// The same, with timeouts that end `time` from now at the earliest. After a node's boot, `cvmfs_config` has the configuration
    /// repository mounted first, which takes a while.
    pub fn extended(self, time: Duration) -> Self {
        Self { extended_until: Instant::now() + time, ..self }
    }

    /// The directory of the configuration.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Timeout of a program or mount that is queried now.
    pub fn timeout(&self) -> Duration {
        self.timeout.max(self.extended_until.saturating_duration_since(Instant::now()))
    }

    /// What the configuration looks like now, see [`Fingerprint::of`].
    pub fn fingerprint(&self) -> Fingerprint {
        let config_repository = self.config_repository.lock().clone();
        Fingerprint::of(&self.root, config_repository.as_ref())
    }

    /// The parameters for the repository `fqrn`.
    pub fn parameters(&self, fqrn: &str) -> Result<Values, ParametersError> {
        if !self.root.is_dir() {
            return Err(ParametersError::Absent(self.root.clone()));
        }
        match self.printed(fqrn) {
            Some(values) => {
                self.remember_config_repository(fqrn, &values);
                Ok(values)
            }
            None => self.read(Some(fqrn)),
        }
    }

    /// What `cvmfs_config` prints, if it can be used.
    fn printed(&self, fqrn: &str) -> Option<Values> {
        let printed = showconfig::query(self.program.as_ref()?, fqrn, self.timeout());
        printed
            .inspect_err(|error| tracing::warn!(%error, "cvmfs_config failed; reading the client's files instead"))
            .ok()
    }

    fn remember_config_repository(&self, fqrn: &str, values: &Values) -> Option<Mount> {
        let found = shared_mount(fqrn, values)?;
        *self.config_repository.lock() = Some(found.clone());
        Some(found)
    }

    /// The repositories that the client is configured for: `CVMFS_REPOSITORIES`.
    pub fn repositories(&self) -> Result<Vec<String>, ParametersError> {
        if !self.root.is_dir() {
            return Err(ParametersError::Absent(self.root.clone()));
        }
        // Stock packages have files that only a shell can read.
        let printed = self.printed(ANY_REPOSITORY).filter(|values| values.contains_key("CVMFS_REPOSITORIES"));
        let values = printed.map_or_else(|| self.read(None), Ok)?;
        let domain = values.get("CVMFS_DEFAULT_DOMAIN");
        let names = values.get("CVMFS_REPOSITORIES").map_or("", String::as_str).split([',', ' ', ';']);
        let qualified = |name: &str| match (name.contains('.'), domain) {
            (false, Some(domain)) => format!("{name}.{domain}"),
            _ => name.to_owned(),
        };
        Ok(names.map(str::trim).filter(|name| !name.is_empty()).map(qualified).collect())
    }

    /// Reads the files; without a name only those for all repositories.
    fn read(&self, fqrn: Option<&str>) -> Result<Values, ParametersError> {
        let mut values = Values::new();
        values.extend(fqrn.map(|name| ("CVMFS_FQRN".to_owned(), name.to_owned())));
        self.file(&self.root.join("default.conf"), &mut values)?;
        for path in self.defaults()? {
            self.file(&path, &mut values)?;
        }
        let shared = fqrn.and_then(|fqrn| self.remember_config_repository(fqrn, &values));
        let shared_file = |name: &str, values: &mut Values| match &shared {
            Some(mount) => self.file_in_mount(mount, name, values),
            None => Ok(()),
        };
        if shared.is_some() {
            shared_file("default.conf", &mut values)?;
        }
        self.file(&self.root.join("default.local"), &mut values)?;
        let Some(fqrn) = fqrn else { return Ok(values) };
        let domain = fqrn.split_once('.').map_or(fqrn, |(_, domain)| domain);
        for (folder, name) in [("domain.d", domain), ("config.d", fqrn)] {
            shared_file(&format!("{folder}/{name}.conf"), &mut values)?;
            self.file(&self.root.join(folder).join(format!("{name}.conf")), &mut values)?;
            self.file(&self.root.join(folder).join(format!("{name}.local")), &mut values)?;
        }
        Ok(values)
    }

    /// The files of `default.d`, sorted.
    fn defaults(&self) -> Result<Vec<PathBuf>, ParametersError> {
        let dir = self.root.join("default.d");
        let entries = match std::fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(ParametersError::Io { path: dir, source }),
        };
        let paths = entries.take(MAX_FILES).filter_map(|entry| Some(entry.ok()?.path()));
        let mut paths: Vec<_> = paths.filter(|path| path.extension().is_some_and(|e| e == "conf")).collect();
        paths.sort();
        Ok(paths)
    }

    /// Adds the assignments of a file; none if it does not exist.
    fn file(&self, path: &Path, values: &mut Values) -> Result<(), ParametersError> {
        match text(path)? {
            Some(text) => Ok(shell::read(&text, path, values)?),
            None => Ok(()),
        }
    }

    /// Adds the assignments of a file of the configuration repository; none if it does not exist.
    fn file_in_mount(&self, mount: &Mount, name: &str, values: &mut Values) -> Result<(), ParametersError> {
        let below = Path::new(SHARED).join(name);
        let path = mount.path().join(&below);
        let found = mount.run_blocking(self.timeout(), move |call| Ok(text(&call.root().join(below))));
        match found?? {
            Some(text) => Ok(shell::read(&text, &path, values)?),
            None => Ok(()),
        }
    }
}

/// The mount of the configuration repository, if there is one and it is not `fqrn` itself.
fn shared_mount(fqrn: &str, values: &Values) -> Option<Mount> {
    let name = values
        .get("CVMFS_CONFIG_REPOSITORY")
        .filter(|name| *name != fqrn && bundles::layout::is_repository_name(name))?;
    let mounts = values.get("CVMFS_MOUNT_DIR").map_or("/cvmfs", String::as_str);
    Some(Mount::new(Path::new(mounts).join(name)))
}

fn text(path: &Path) -> Result<Option<String>, ParametersError> {
    let io = |source| ParametersError::Io { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(source) => return Err(io(source)),
    };
    let mut text = String::new();
    let read = file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(io)?;
    if read as u64 > MAX_FILE {
        return Err(ParametersError::TooLarge(path.to_owned()));
    }
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    /// A directory of files. Each sets `LAST` to its name and appends the name to `READ`.
    fn files(names: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in names {
            write(dir.path(), name, &format!("LAST={name}\nREAD=\"$READ {name}\"\n"));
        }
        dir
    }

    fn write(root: &Path, name: &str, text: &str) {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn files_are_read_in_the_order_of_the_client() {
        let order = [
            "default.conf",
            "default.d/10-a.conf",
            "default.d/20-b.conf",
            "default.local",
            "domain.d/cern.ch.conf",
            "domain.d/cern.ch.local",
            "config.d/unpacked.cern.ch.conf",
            "config.d/unpacked.cern.ch.local",
        ];
        let dir = files(&order);
        for other in ["default.d/30-c.txt", "domain.d/example.org.conf", "config.d/atlas.cern.ch.conf"] {
            write(dir.path(), other, "LAST=other");
        }
        let read = ClientConfiguration::at(dir.path(), LONG).parameters("unpacked.cern.ch").unwrap();
        assert_eq!(read["READ"].trim().split(' ').collect::<Vec<_>>(), order);
        assert_eq!((read["LAST"].as_str(), read["CVMFS_FQRN"].as_str()), (order[7], "unpacked.cern.ch"));
    }

    #[test]
    fn the_configuration_repository_comes_before_the_node() {
        let mounts = files(&[]);
        let shared = "config.cern.ch/etc/cvmfs";
        for name in ["default.conf", "domain.d/cern.ch.conf", "config.d/unpacked.cern.ch.conf"] {
            write(&mounts.path().join(shared), name, &format!("READ=\"$READ shared/{name}\""));
        }
        let dir = files(&["default.conf", "default.local", "domain.d/cern.ch.conf", "config.d/unpacked.cern.ch.conf"]);
        let more = format!("CVMFS_CONFIG_REPOSITORY=config.cern.ch\nCVMFS_MOUNT_DIR={}\n", mounts.path().display());
        write(dir.path(), "default.d/50-x.conf", &more);
        let client = ClientConfiguration::at(dir.path(), LONG);
        let read = client.parameters("unpacked.cern.ch").unwrap();
        let expected = "default.conf shared/default.conf default.local shared/domain.d/cern.ch.conf \
                        domain.d/cern.ch.conf shared/config.d/unpacked.cern.ch.conf config.d/unpacked.cern.ch.conf";
        assert_eq!(read["READ"].trim(), expected);
        assert!(!client.parameters("config.cern.ch").unwrap()["READ"].contains("shared"));
        // Opening a FIFO without a writer blocks as a hung mount does.
        let hung = mounts.path().join(shared).join("default.conf");
        std::fs::remove_file(&hung).unwrap();
        nix::unistd::mkfifo(&hung, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let message = ClientConfiguration::at(dir.path(), Duration::from_millis(50)).parameters("unpacked.cern.ch");
        assert!(message.unwrap_err().to_string().contains("did not respond"));
    }

    /// A configuration whose parameters `script` prints.
    fn printed_by(root: &Path, script: &str, timeout: Duration) -> ClientConfiguration {
        let program = root.join("cvmfs_config");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        ClientConfiguration { program: Some(program), ..ClientConfiguration::at(root, timeout) }
    }

    #[test]
    fn a_slow_program_is_waited_for_while_timeouts_are_extended() {
        let dir = files(&[]);
        let short = Duration::from_millis(20);
        let slow = |timeout| printed_by(dir.path(), "sleep 0.3; echo CVMFS_TIMEOUT=7", timeout);
        assert!(!slow(short).parameters("a.b").unwrap().contains_key("CVMFS_TIMEOUT"), "it was waited for");
        assert_eq!(slow(short).extended(LONG).parameters("a.b").unwrap()["CVMFS_TIMEOUT"], "7");
        assert_eq!(slow(LONG).extended(Duration::ZERO).parameters("a.b").unwrap()["CVMFS_TIMEOUT"], "7");
    }

    #[test]
    fn repositories_are_known_although_only_a_shell_can_read_the_files() {
        let dir = files(&[]);
        write(dir.path(), "default.d/50-cern-debian.conf", "if [ -f /x ] && grep -q y /x; then\nCVMFS_A=b\nfi\n");
        assert!(ClientConfiguration::at(dir.path(), LONG).repositories().is_err());
        let client = printed_by(dir.path(), "echo CVMFS_REPOSITORIES=a.b,c.d", LONG);
        assert_eq!(client.repositories().unwrap(), ["a.b", "c.d"]);
        // Nothing is printed about repositories, and the files still cannot be read.
        assert!(printed_by(dir.path(), "echo CVMFS_TIMEOUT=7", LONG).repositories().is_err());
    }

    #[test]
    fn files_that_cannot_be_read_are_errors() {
        let dir = files(&[]);
        let client = ClientConfiguration::at(dir.path(), LONG);
        write(dir.path(), "default.local", "A=b\nls\n");
        let message = client.parameters("unpacked.cern.ch").unwrap_err().to_string();
        assert!(message.contains("default.local:2: "), "{message}");
        write(dir.path(), "default.local", &"#".repeat(2 << 20));
        assert!(client.parameters("unpacked.cern.ch").unwrap_err().to_string().contains("has more than"));
        let absent = ClientConfiguration::at(&dir.path().join("none"), LONG);
        assert!(matches!(absent.parameters("unpacked.cern.ch"), Err(ParametersError::Absent(_))));
        assert!(absent.repositories().is_err());
    }

    #[test]
    fn repositories_are_those_of_the_client() {
        let dir = files(&[]);
        write(dir.path(), "default.local", "CVMFS_DEFAULT_DOMAIN=cern.ch\nCVMFS_REPOSITORIES=atlas,unpacked.cern.ch\n");
        let client = ClientConfiguration::at(dir.path(), LONG);
        assert_eq!(client.repositories().unwrap(), ["atlas.cern.ch", "unpacked.cern.ch"]);
        write(dir.path(), "default.local", "");
        assert!(client.repositories().unwrap().is_empty());
    }
}
