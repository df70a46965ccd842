//! A cache of results that take long to compute, kept between runs.
//!
//! A result is a directory that appears atomically: it is written beside its final path and renamed. Concurrent builders of the
//! same result, in one process or several, are serialised by a lock file; the second finds the first one's result. The next
//! builder removes what an interrupted one left.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};

/// Returns `cache/<name>-<key>`; if it does not exist, `make` fills it. `key` must identify the content; results with other keys
/// are removed.
pub fn cached(cache: &Path, name: &str, key: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    fs::create_dir_all(cache).with_context(|| format!("cannot create {}", cache.display()))?;
    let result = cache.join(format!("{name}-{key}"));
    if result.exists() {
        return Ok(result);
    }
    let _turn = lock(&cache.join(format!("{name}.lock")))?;
    if result.exists() {
        return Ok(result);
    }
    let partial = cache.join(format!("{name}.partial"));
    remove(&partial)?;
    fs::create_dir(&partial)?;
    make(&partial).with_context(|| format!("cannot make {name}"))?;
    remove_other_keys(cache, name, key)?;
    fs::rename(&partial, &result)?;
    Ok(result)
}

/// Waits for the lock at `path`; it ends with the returned value or with this process.
fn lock(path: &Path) -> Result<Flock<File>> {
    let file = File::options().create(true).append(true).open(path)?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, e)| e).with_context(|| format!("flock {}", path.display()))
}

fn remove(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("cannot remove {}; is something mounted below it?", directory.display()))
        }
        _ => Ok(()),
    }
}

fn remove_other_keys(cache: &Path, name: &str, key: &str) -> Result<()> {
    for entry in fs::read_dir(cache)? {
        let entry = entry?;
        let file_name = entry.file_name();
        let found = file_name.to_str().and_then(|n| n.strip_prefix(name)).and_then(|rest| rest.strip_prefix('-'));
        if found.is_some_and(|k| k != key && k.len() == key.len()) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn two_builders_make_it_once() {
        let cache = tempfile::tempdir().unwrap();
        let made = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let result = cached(cache.path(), "thing", "1", |dir| {
                        made.fetch_add(1, Ordering::SeqCst);
                        Ok(fs::write(dir.join("content"), "whole")?)
                    });
                    assert_eq!(fs::read(result.unwrap().join("content")).unwrap(), b"whole");
                });
            }
        });
        assert_eq!(made.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_failed_builder_leaves_nothing_that_counts() {
        let cache = tempfile::tempdir().unwrap();
        let failed = cached(cache.path(), "thing", "1", |dir| {
            fs::write(dir.join("half"), "")?;
            anyhow::bail!("interrupted")
        });
        assert!(failed.is_err());
        let result = cached(cache.path(), "thing", "1", |_| Ok(())).unwrap();
        assert_eq!(fs::read_dir(result).unwrap().count(), 0);
    }

    #[test]
    fn a_new_key_replaces_the_old_result() {
        let cache = tempfile::tempdir().unwrap();
        let old = cached(cache.path(), "thing", "1", |_| Ok(())).unwrap();
        let other = cached(cache.path(), "thing-else", "1", |_| Ok(())).unwrap();
        let new = cached(cache.path(), "thing", "2", |_| Ok(())).unwrap();
        assert!(!old.exists() && other.exists() && new.exists());
    }
}
