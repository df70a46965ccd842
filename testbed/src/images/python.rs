//! A real Python with real packages on a real Debian, in three layers.
//!
//! 1. a minimal Debian (or Ubuntu), trimmed;
//! 2. Python 3, its standard library and some packages, as the difference that apt made;
//! 3. an application that opens several hundred files when it starts, and that replaces, deletes and hides files of the
//!    layers below. It fails if it sees any of what was deleted.

use std::path::Path;

use anyhow::Result;

use super::{Image, ImageBuilder, Layer, LayerTar, debian};

const PACKAGES: &[&str] = &[
    "python3",
    "python3-dateutil",
    "python3-jinja2",
    "python3-numpy",
    "python3-pygments",
    "python3-requests",
    "python3-yaml",
];

/// The program of [`python`], as a pod runs it.
pub const PYTHON_COMMAND: [&str; 2] = ["python3", "/opt/app/main.py"];

/// The image `demo/python:1`.
pub fn python(cache: &Path) -> Result<Image> {
    let image = of_python("demo/python", debian::layers(cache, "python", PACKAGES)?);
    image.layer(application).entrypoint(["python3", "/opt/app/main.py"]).build(cache)
}

/// The image `demo/python-alone:1`: its layers without the application.
pub fn python_alone(cache: &Path) -> Result<Image> {
    of_python("demo/python-alone", debian::layers(cache, "python", PACKAGES)?).entrypoint(["python3"]).build(cache)
}

/// The image `demo/plain:1`: the minimal system that the other images stand on.
pub fn plain(cache: &Path) -> Result<Image> {
    let system = debian::layers(cache, "python", PACKAGES)?.into_iter().take(1);
    ImageBuilder::of("demo/plain", system).entrypoint(["/bin/sh"]).build(cache)
}

/// An image of such layers in which Python writes nothing beside its modules.
pub(super) fn of_python(repository: &str, layers: Vec<Layer>) -> ImageBuilder {
    ImageBuilder::of(repository, layers).env("PYTHONDONTWRITEBYTECODE", "1").env("LC_ALL", "C.UTF-8")
}

fn application(tar: &mut LayerTar) -> Result<()> {
    for directory in ["etc", "etc/skel", "opt", "opt/app"] {
        tar.dir(directory, 0o755)?;
    }
    tar.file("opt/app/main.py", 0o644, include_str!("app/main.py"))?;
    tar.file("etc/issue", 0o644, "demo/python\n")?;
    tar.whiteout("etc/issue.net")?;
    tar.opaque("etc/skel")?;
    tar.file("etc/skel/README", 0o644, "Only this file is left.\n")
}
