//! Cgroups created in advance, and the removal of what a container runtime leaves behind.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tracer_ebpf::cgroup::{Cgroup, Hierarchy, Leftovers};

/// The path of a cgroup that nobody else uses.
fn unique_path() -> Result<PathBuf> {
    let scratch = tempfile::Builder::new().prefix("tracer-test-").tempdir()?;
    Ok(Path::new("/").join(scratch.path().file_name().context("a name")?))
}

fn host() -> Result<Hierarchy> {
    Ok(Hierarchy::detect(None)?)
}

fn in_hierarchy(path: &Path) -> Result<PathBuf> {
    Ok(host()?.directory(path))
}

#[test]
fn a_cgroup_is_removed_with_the_parents_created_for_it() -> Result<()> {
    let path = unique_path()?;
    let outer = Cgroup::create(&host()?, &path)?;
    let inner = Cgroup::create(&host()?, &path.join("a/b"))?;
    assert_eq!(inner.path(), in_hierarchy(&path)?.join("a/b"));
    ensure!(inner.path().join("cgroup.procs").is_file(), "it is not a cgroup");
    drop(inner);
    ensure!(!in_hierarchy(&path)?.join("a").exists() && outer.path().is_dir());
    drop(outer);
    ensure!(!in_hierarchy(&path)?.exists());
    Ok(())
}

#[test]
fn only_cgroups_that_did_not_exist_before_are_removed() -> Result<()> {
    let path = unique_path()?;
    let outer = Cgroup::create(&host()?, &path)?;
    let leftovers = Leftovers::note(&path.join("parent"))?;
    // A container runtime creates the parent and the container's cgroup, and removes only the latter.
    fs::create_dir(in_hierarchy(&path.join("parent"))?)?;
    drop(leftovers);
    ensure!(!in_hierarchy(&path.join("parent"))?.exists(), "the parent was left");
    ensure!(outer.path().is_dir(), "a cgroup that existed before was removed");
    Ok(())
}
