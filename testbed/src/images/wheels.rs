//! Packages of PyPI in a root file system that has Debian's Python.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::rootfs::shell;
use crate::process::run_command;

/// C library and its version that a wheel may need.
const PLATFORMS: [&str; 5] = ["manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014", "manylinux1"];

/// Installs wheels (`name==version`), and nothing that they depend on, with this machine's pip. What Python compiles of them
/// refers to no times, so that it is the same whenever the image is made.
pub(super) fn install(root: &Path, wheels: &[&str]) -> Result<()> {
    let python = root.join("usr/bin/python3");
    let python = std::fs::read_link(&python).with_context(|| format!("no link {}", python.display()))?;
    let python = python.to_str().context("Python's name is no text")?;
    let version = python.strip_prefix("python").with_context(|| format!("no version in {python:?}"))?;
    let directory = format!("usr/local/lib/{python}/dist-packages");
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "--no-cache-dir", "--target"]);
    pip.arg(root.join(&directory)).args(["--only-binary=:all:", "--implementation", "cp", "--python-version", version]);
    for platform in PLATFORMS {
        pip.arg("--platform").arg(format!("{platform}_{}", std::env::consts::ARCH));
    }
    run_command(pip.args(wheels)).context("pip cannot install wheels: is python3-pip installed, is PyPI reached?")?;
    shell(root, &format!("python3 -m compileall -q --invalidation-mode unchecked-hash /{directory}"))
}
