//! Downloads Debian's kernels, and keeps them in `~/.cache/cvmfs-prefetch/kernels`.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::{Flock, FlockArg};

/// The package that depends on the default kernel of this Debian release: 6.1 in Debian 12.
pub(crate) const DEFAULT: &str = "linux-image-amd64";
/// The newer kernel of Debian 12. Later releases do not have this package, but their default kernel is as new.
pub(crate) const NEWER: &str = "linux-image-6.12-amd64";

/// The modules needed to mount the root and the disk, each after its dependencies. A module that is built into the kernel has
/// no file, and is skipped.
const MODULES: &[&str] = &[
    "virtio_ring",
    "virtio",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "netfs",
    "fscache",
    "9pnet",
    "9pnet_virtio",
    "9p",
    "overlay",
    "virtio_blk",
    "crc16",
    "crc32c_generic",
    "libcrc32c",
    "mbcache",
    "jbd2",
    "ext4",
];

/// Whether this machine can run the kernel of a package: other distributions do not have the package, and other CPUs cannot
/// run the host's programs on it.
pub(crate) fn is_available(package: &str) -> bool {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let has_line = |expected: &str| release.lines().any(|line| line == expected);
    cfg!(target_arch = "x86_64") && has_line("ID=debian") && (package == DEFAULT || has_line("VERSION_ID=\"12\""))
}

/// A directory with a kernel image and the modules in [`MODULES`].
pub(super) struct Kernel(PathBuf);

impl Kernel {
    /// Returns the kernel that a package depends on, from the cache or else downloaded, which takes about 15 s.
    pub(super) fn fetch(meta: &str) -> Result<Self> {
        let package = package(meta)?;
        let cache = cache()?;
        let directory = cache.join(format!("{}-{:016x}", file_stem(&package)?, modules_hash()));
        let _lock = lock(&cache.join("lock"))?;
        if !directory.exists() {
            // Renamed into place when complete.
            let partial = cache.join("partial");
            if partial.exists() {
                fs::remove_dir_all(&partial)?;
            }
            fs::create_dir(&partial)?;
            unpack(&package, &partial).with_context(|| format!("cannot download the kernel {package}"))?;
            fs::rename(&partial, &directory)?;
        }
        Ok(Self(directory))
    }

    pub(super) fn image(&self) -> PathBuf {
        self.0.join("vmlinuz")
    }

    /// The modules in the order in which they must be loaded.
    pub(super) fn modules(&self) -> Result<Vec<PathBuf>> {
        let found = modules_below(&self.0)?;
        let named = |name: &&str| found.iter().find(|(module, _)| module == name).map(|(_, path)| path.clone());
        Ok(MODULES.iter().filter_map(named).collect())
    }
}

/// The name of the package that contains the kernel.
fn package(meta: &str) -> Result<String> {
    let depends = output(Command::new("apt-cache").args(["depends", meta]))?;
    let packages = depends.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    let package = packages.into_iter().find(|name| name.starts_with("linux-image-"));
    Ok(package.with_context(|| format!("apt does not know {meta}: run apt-get update"))?.to_owned())
}

/// Distinguishes cached kernels with different lists of modules.
fn modules_hash() -> u64 {
    let mut hasher = DefaultHasher::new();
    MODULES.hash(&mut hasher);
    hasher.finish()
}

/// Name and version of a package, as in the name of its file.
fn file_stem(package: &str) -> Result<String> {
    // 'http://.../name_version_amd64.deb' name_version_amd64.deb size hash
    let uris = output(Command::new("apt-get").args(["download", "--print-uris", package]))?;
    let file = uris.split_whitespace().find_map(|word| word.strip_suffix(".deb"));
    Ok(file.with_context(|| format!("apt prints no URI for {package}: {uris:?}"))?.to_owned())
}

fn unpack(package: &str, into: &Path) -> Result<()> {
    let root = into.join("root");
    output(Command::new("apt-get").args(["download", package]).current_dir(into))?;
    let deb = find(into, |name| name.ends_with(".deb"))?;
    output(Command::new("dpkg").arg("-x").arg(&deb).arg(&root))?;
    fs::copy(find(&root.join("boot"), |name| name.starts_with("vmlinuz-"))?, into.join("vmlinuz"))?;
    for (name, module) in modules_below(&root)? {
        if MODULES.contains(&name.as_str()) {
            fs::copy(&module, into.join(module.file_name().context("a module has a name")?))?;
        }
    }
    fs::remove_file(deb)?;
    Ok(fs::remove_dir_all(root)?)
}

fn find(directory: &Path, matches: impl Fn(&str) -> bool) -> Result<PathBuf> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(&matches) {
            return Ok(entry.path());
        }
    }
    bail!("{} does not contain the expected file", directory.display())
}

/// Names and paths of the modules below a directory. They may be compressed.
fn modules_below(directory: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let (path, kind) = entry.and_then(|e| Ok((e.path(), e.file_type()?)))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if kind.is_dir() {
            found.extend(modules_below(&path)?);
        } else if let Some((module, "" | ".xz")) = name.split_once(".ko") {
            found.push((module.to_owned(), path.clone()));
        }
    }
    Ok(found)
}

fn cache() -> Result<PathBuf> {
    let home = std::env::var_os("HOME").context("HOME is not set")?;
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or(Path::new(&home).join(".cache"), PathBuf::from);
    let directory = cache.join("cvmfs-prefetch/kernels");
    fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
    Ok(directory)
}

/// Takes a lock, which is held until the returned value is dropped or this process ends.
fn lock(path: &Path) -> Result<Flock<File>> {
    let file = File::options().create(true).append(true).open(path)?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, e)| e).with_context(|| format!("flock {}", path.display()))
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
