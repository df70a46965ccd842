//! ROOT from PyPI, with the compiler and headers that its interpreter needs.

use std::path::Path;

use anyhow::Result;

use super::debian::{self, Step};
use super::python::of_python;
use super::{Image, wheels};

const PACKAGES: &[&str] = &["python3", "g++", "libc6-dev"];
const WHEELS: &[&str] = &["numpy==2.2.6", "root==0.1a12"];

/// The image `demo/root:1`.
pub fn root(cache: &Path) -> Result<Image> {
    let step = Step { key: &format!("{WHEELS:?}"), run: &|root| wheels::install(root, WHEELS) };
    let image = of_python("demo/root", debian::layers_with(cache, "root", PACKAGES, &step)?);
    image
        .layer(|tar| {
            tar.dir("opt", 0o755)?;
            tar.dir("opt/app", 0o755)?;
            tar.file("opt/app/fill.C", 0o644, include_str!("app/fill.C"))?;
            tar.file("opt/app/root.py", 0o644, include_str!("app/root.py"))
        })
        .entrypoint(["python3", "/opt/app/root.py"])
        .env("HOME", "/root")
        .build(cache)
}
