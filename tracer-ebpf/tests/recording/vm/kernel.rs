//! Debian's kernels, from its package archive, kept between runs in `~/.cache/cvmfs-prefetch/kernels`.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::{Flock, FlockArg};

/// The package that depends on the current kernel of this Debian: 6.1 in Debian 12.
pub(crate) const DEFAULT: &str = "linux-image-amd64";
/// The newer of Debian 12's kernels. Later Debians have none of this name; their default is as new.
pub(crate) const NEWER: &str = "linux-image-6.12-amd64";

/// What mounting the root and the disk takes, each after those it needs. Kernels that have one built in have no file for it.
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

/// Whether this machine can have the kernel of a package: another distribution's archive has none of this name, and
/// another processor could not run the host's programs on it.
pub(crate) fn is_to_be_had(package: &str) -> bool {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let says = |wanted: &str| release.lines().any(|line| line == wanted);
    cfg!(target_arch = "x86_64") && says("ID=debian") && (package == DEFAULT || says("VERSION_ID=\"12\""))
}

/// A directory with the kernel's image and the modules that are needed of it.
pub(super) struct Kernel(PathBuf);

impl Kernel {
    /// Finds the kernel that a package depends on in the cache or puts it there, which takes the network and about 15 s.
    pub(super) fn fetch(meta: &str) -> Result<Self> {
        let package = package(meta)?;
        let cache = cache()?;
        let place = cache.join(format!("{}-{:016x}", file_stem(&package)?, of_modules()));
        let _turn = lock(&cache.join("lock"))?;
        if !place.exists() {
            // Appears complete or not at all.
            let partial = cache.join("partial");
            if partial.exists() {
                fs::remove_dir_all(&partial)?;
            }
            fs::create_dir(&partial)?;
            unpack(&package, &partial).with_context(|| format!("cannot get the kernel {package}"))?;
            fs::rename(&partial, &place)?;
        }
        Ok(Self(place))
    }

    pub(super) fn image(&self) -> PathBuf {
        self.0.join("vmlinuz")
    }

    /// In the order in which they must be loaded.
    pub(super) fn modules(&self) -> Result<Vec<PathBuf>> {
        let found = modules_below(&self.0)?;
        let named = |name: &&str| found.iter().find(|(module, _)| module == name).map(|(_, path)| path.clone());
        Ok(MODULES.iter().filter_map(named).collect())
    }
}

/// The name of the package that holds the kernel.
fn package(meta: &str) -> Result<String> {
    let depends = output(Command::new("apt-cache").args(["depends", meta]))?;
    let packages = depends.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    let package = packages.into_iter().find(|name| name.starts_with("linux-image-"));
    Ok(package.with_context(|| format!("apt knows no {meta}: run apt-get update"))?.to_owned())
}

/// Tells what was kept for another list of modules.
fn of_modules() -> u64 {
    let mut hasher = DefaultHasher::new();
    MODULES.hash(&mut hasher);
    hasher.finish()
}

/// Name and version, as in the name of the package's file.
fn file_stem(package: &str) -> Result<String> {
    // 'http://.../name_version_amd64.deb' name_version_amd64.deb size hash
    let uris = output(Command::new("apt-get").args(["download", "--print-uris", package]))?;
    let file = uris.split_whitespace().find_map(|word| word.strip_suffix(".deb"));
    Ok(file.with_context(|| format!("apt cannot say where {package} is: {uris:?}"))?.to_owned())
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

fn find(directory: &Path, wanted: impl Fn(&str) -> bool) -> Result<PathBuf> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(&wanted) {
            return Ok(entry.path());
        }
    }
    bail!("{} has not what was expected in it", directory.display())
}

/// Names and files of the modules, which may be compressed.
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
    fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    Ok(directory)
}

/// Held until the returned value is dropped, or this process ends.
fn lock(path: &Path) -> Result<Flock<File>> {
    let file = File::options().create(true).append(true).open(path)?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, e)| e).with_context(|| format!("flock {}", path.display()))
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
