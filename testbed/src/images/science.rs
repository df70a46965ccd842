//! A large scientific Python: what most analyses import.

use std::path::Path;

use anyhow::Result;

use super::debian::{self, Step};
use super::python::of_python;
use super::{Image, wheels};

/// These and their dependencies.
const WHEELS: &[&str] = &[
    "cloudpickle==3.1.3",
    "contourpy==1.3.3",
    "cycler==0.12.1",
    "fonttools==4.68.0",
    "joblib==1.6.0",
    "kiwisolver==1.5.1",
    "matplotlib==3.10.3",
    "numpy==2.2.6",
    "packaging==26.4",
    "pandas==2.2.3",
    "pillow==13.0.0",
    "pyparsing==3.3.3",
    "python-dateutil==4.0.0",
    "pytz==2026.6",
    "scikit-learn==1.6.1",
    "scipy==1.15.3",
    "threadpoolctl==3.8.0",
    "tzdata==2026.6",
];

/// The image `demo/science:1`.
pub fn science(cache: &Path) -> Result<Image> {
    let step = Step { key: &format!("{WHEELS:?}"), run: &|root| wheels::install(root, WHEELS) };
    let image = of_python("demo/science", debian::layers_with(cache, "science", &["python3"], &step)?);
    image
        .layer(|tar| {
            tar.dir("opt", 0o755)?;
            tar.dir("opt/app", 0o755)?;
            tar.file("opt/app/fit.py", 0o644, include_str!("app/science.py"))
        })
        .entrypoint(["python3", "/opt/app/fit.py"])
        // The container has no writable home.
        .env("MPLCONFIGDIR", "/tmp")
        .build(cache)
}
