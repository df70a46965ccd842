//! Cgroups made in advance, and what a container runtime leaves of them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tracer_ebpf::Options;
use tracer_ebpf::cgroup::{Cgroup, Hierarchy, Leftovers};

/// A name below which nobody else makes cgroups.
fn unique() -> Result<PathBuf> {
    let scratch = tempfile::Builder::new().prefix("tracer-test-").tempdir()?;
    Ok(Path::new("/").join(scratch.path().file_name().context("a name")?))
}

fn host() -> Result<Hierarchy> {
    Ok(Hierarchy::of_host(&Options::default())?)
}

fn in_hierarchy(path: &Path) -> Result<PathBuf> {
    Ok(host()?.directory(path))
}

#[test]
fn a_cgroup_goes_with_the_parents_that_were_made_for_it() -> Result<()> {
    let path = unique()?;
    let outer = Cgroup::create(&host()?, &path)?;
    let inner = Cgroup::create(&host()?, &path.join("a/b"))?;
    assert_eq!(inner.path(), in_hierarchy(&path)?.join("a/b"));
    ensure!(inner.path().join("cgroup.procs").is_file(), "it is no cgroup");
    drop(inner);
    ensure!(!in_hierarchy(&path)?.join("a").exists() && outer.path().is_dir());
    drop(outer);
    ensure!(!in_hierarchy(&path)?.exists());
    Ok(())
}

#[test]
fn only_leftovers_are_removed() -> Result<()> {
    let path = unique()?;
    let outer = Cgroup::create(&host()?, &path)?;
    let leftovers = Leftovers::note(&path.join("parent"))?;
    // As a container runtime does: it makes the parent and the container's, and removes the container's.
    fs::create_dir(in_hierarchy(&path.join("parent"))?)?;
    drop(leftovers);
    ensure!(!in_hierarchy(&path.join("parent"))?.exists(), "the parent was left");
    ensure!(outer.path().is_dir(), "what was there before was removed");
    Ok(())
}
