//! Small images around one static program, busybox.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::cache::cached;
use super::{Image, ImageBuilder, LayerTar, Owner};
use crate::process::{run, run_command};

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n";
const GROUP: &str = "root:x:0:\nnogroup:x:65534:\n";

/// A shell with the usual tools; the entry point is `/bin/sh`.
pub fn busybox(cache: &Path) -> Result<Image> {
    base("demo/busybox", cache)?.entrypoint(["/bin/sh"]).build(cache)
}

/// The image of a pod's sandbox: it sleeps.
pub fn pause(cache: &Path) -> Result<Image> {
    base("demo/pause", cache)?.entrypoint(["/bin/sleep", "infinity"]).build(cache)
}

/// busybox, a layer with a tree below `/srv`, and layers that delete and replace parts of it in every possible way. The names
/// below `/srv` say what happens to them.
pub fn whiteouts(cache: &Path) -> Result<Image> {
    ImageBuilder::from(&busybox(cache)?, "demo/whiteouts", "1")?
        .layer(tree)
        .layer(changes)
        .layer(changes_of_changes)
        .build(cache)
}

fn base(repository: &str, cache: &Path) -> Result<ImageBuilder> {
    let binary = busybox_binary(cache)?;
    let program = fs::read(&binary)?;
    let applets = run(&binary, &["--list"])?;
    Ok(ImageBuilder::new(repository, "1").layer(|tar| {
        for directory in ["bin", "dev", "etc", "home", "proc", "root", "run", "srv", "sys", "usr", "usr/bin", "var"] {
            tar.dir(directory, 0o755)?;
        }
        tar.dir("tmp", 0o1777)?;
        tar.file("etc/passwd", 0o644, PASSWD)?;
        tar.file("etc/group", 0o644, GROUP)?;
        // Makes the chain of layers unique to this image.
        tar.file("etc/image", 0o644, format!("{repository}\n"))?;
        for mount_point in ["etc/hosts", "etc/hostname", "etc/resolv.conf"] {
            tar.file(mount_point, 0o644, [])?;
        }
        tar.file("bin/busybox", 0o755, &program)?;
        tar.symlink("usr/bin/env", "../../bin/busybox")?;
        let mut names: Vec<&str> = applets.lines().filter(|name| *name != "busybox").collect();
        names.sort_unstable();
        names.iter().try_for_each(|name| tar.symlink(format!("bin/{name}"), "busybox"))
    }))
}

fn tree(tar: &mut LayerTar) -> Result<()> {
    for directory in [
        "srv",
        "srv/deleted-dir",
        "srv/deleted-dir/below",
        "srv/opaque",
        "srv/opaque/old-dir",
        "srv/dir-to-file",
        "srv/dir-to-link",
        "srv/emptied",
        "srv/merged",
        "srv/deleted-in-dir",
        "srv/reborn-dir",
        "srv/with space",
    ] {
        tar.dir(directory, 0o755)?;
    }
    for file in [
        "kept",
        "deleted-file",
        "deleted-dir/one",
        "deleted-dir/below/two",
        "opaque/old-file",
        "opaque/old-dir/deep",
        "file-to-dir",
        "file-to-link",
        "dir-to-file/content",
        "dir-to-link/content",
        "emptied/content",
        "merged/lower",
        "merged/both",
        "deleted-in-dir/kept",
        "deleted-in-dir/deleted",
        "replaced",
        "mode-changed",
        "owner-changed",
        "deleted-then-made-again",
        "reborn-dir/old",
        "made-again-then-deleted",
        "with space/\u{fc}ber 'quoted' \u{6587}",
    ] {
        tar.file(format!("srv/{file}"), 0o644, format!("{file} of the lower layer\n"))?;
    }
    tar.hardlink("srv/hard-link-kept", "srv/kept")?;
    tar.hardlink("srv/hard-link-deleted", "srv/kept")?;
    tar.symlink("srv/link-to-file", "kept")?;
    tar.symlink("srv/link-kept", "kept")?;
    tar.symlink("srv/link-deleted", "/srv/kept")?;
    tar.file("srv/set-user-id", 0o4755, "#!/bin/sh\n")
}

fn changes(tar: &mut LayerTar) -> Result<()> {
    tar.dir("srv", 0o755)?;
    for deleted in ["deleted-file", "deleted-dir", "hard-link-deleted", "link-deleted", "deleted-then-made-again"] {
        tar.whiteout(format!("srv/{deleted}"))?;
    }
    for (directory, mode) in [("opaque", 0o750), ("emptied", 0o755), ("reborn-dir", 0o755)] {
        tar.dir(format!("srv/{directory}"), mode)?;
        tar.opaque(format!("srv/{directory}"))?;
    }
    tar.file("srv/opaque/new-file", 0o644, "new\n")?;
    tar.dir("srv/merged", 0o755)?;
    tar.file("srv/merged/both", 0o644, "both of the upper layer\n")?;
    tar.file("srv/merged/upper", 0o644, "upper\n")?;
    tar.dir("srv/deleted-in-dir", 0o700)?;
    tar.whiteout("srv/deleted-in-dir/deleted")?;
    tar.dir("srv/file-to-dir", 0o755)?;
    tar.file("srv/file-to-dir/content", 0o644, "in a directory now\n")?;
    tar.symlink("srv/file-to-link", "kept")?;
    tar.file("srv/dir-to-file", 0o644, "a file now\n")?;
    tar.symlink("srv/dir-to-link", "merged")?;
    tar.file("srv/link-to-file", 0o644, "a file now\n")?;
    tar.file("srv/replaced", 0o644, "replaced by the upper layer\n")?;
    tar.file("srv/mode-changed", 0o600, "mode-changed of the lower layer\n")?;
    tar.owner(Owner { uid: 65534, gid: 65534 });
    tar.file("srv/owner-changed", 0o644, "owner-changed of the lower layer\n")
}

fn changes_of_changes(tar: &mut LayerTar) -> Result<()> {
    tar.dir("srv", 0o755)?;
    tar.file("srv/deleted-then-made-again", 0o644, "made again\n")?;
    tar.whiteout("srv/made-again-then-deleted")?;
    tar.dir("srv/reborn-dir", 0o755)?;
    tar.file("srv/reborn-dir/new", 0o644, "new\n")?;
    tar.dir("srv/deleted-dir", 0o755)?;
    tar.file("srv/deleted-dir/three", 0o644, "only this one\n")?;
    // A directory that appears, and one that disappears, together with its opaque marker.
    tar.whiteout("srv/emptied")
}

/// Finds a static busybox: this machine's or, without installing it, that of the package `busybox-static`.
pub fn busybox_binary(cache: &Path) -> Result<PathBuf> {
    for path in ["/bin/busybox", "/usr/bin/busybox"] {
        if fs::read(path).is_ok_and(|elf| is_static(&elf)) {
            return Ok(path.into());
        }
    }
    let place = cached(cache, "busybox", "1", |directory| {
        tracing::info!("downloading busybox-static");
        if download(directory).is_err() {
            run("apt-get", &["--quiet", "update"])?;
            download(directory)?;
        }
        let packages = with_extension(directory, "deb")?;
        let [package] = packages.as_slice() else { bail!("apt-get downloaded {packages:?}, expected one package") };
        let unpacked = directory.join("unpacked");
        run_command(Command::new("dpkg-deb").arg("--extract").arg(package).arg(&unpacked))?;
        let inside = ["bin/busybox", "usr/bin/busybox"].map(|path| unpacked.join(path));
        let found = inside.iter().find(|path| path.exists()).context("the package has no busybox")?;
        fs::copy(found, directory.join("busybox"))?;
        fs::remove_dir_all(&unpacked)?;
        Ok(fs::remove_file(package)?)
    })?;
    let binary = place.join("busybox");
    ensure!(is_static(&fs::read(&binary)?), "{} is not a static program", binary.display());
    ensure!(fs::metadata(&binary)?.permissions().mode() & 0o111 != 0, "{} is not executable", binary.display());
    Ok(binary)
}

fn download(directory: &Path) -> Result<()> {
    // As root, because apt's own user cannot write here.
    let arguments = ["-o", "APT::Sandbox::User=root", "--quiet", "download", "busybox-static"];
    run_command(Command::new("apt-get").args(arguments).current_dir(directory)).map(drop)
}

fn with_extension(directory: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory)?.collect::<Result<Vec<_>, _>>()?;
    let paths = entries.into_iter().map(|entry| entry.path());
    Ok(paths.filter(|path| path.extension() == Some(OsStr::new(extension))).collect())
}

/// Whether a 64-bit little-endian ELF program runs without a dynamic loader.
fn is_static(elf: &[u8]) -> bool {
    const PT_INTERP: u64 = 3;
    let number = |at: usize, size: usize| -> Option<u64> {
        let bytes = elf.get(at..at.checked_add(size)?)?;
        Some(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    };
    let headers = || -> Option<Vec<u64>> {
        let (offset, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
        (0..count).map(|i| number(usize::try_from(offset + i * size).ok()?, 4)).collect()
    };
    elf.starts_with(b"\x7fELF\x02\x01") && headers().is_some_and(|kinds| !kinds.contains(&PT_INTERP))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_dynamic_program_is_not_static() {
        assert!(!is_static(&fs::read("/bin/sh").unwrap()));
        assert!(!is_static(b"#!/bin/sh\n"));
        assert!(!is_static(b"\x7fELF\x02\x01"));
    }
}
