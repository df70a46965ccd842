//! Whether the CVMFS client's cache and the containers' files are on different file systems. If they share one, a node can
//! lock up when many containers start at once; docs/src/snapshotter.md, "Which file system", explains how.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Result, anyhow, bail};
use node::cvmfs_client::cache::{ClientCache, client_cache};
use node::cvmfs_client::parameters::ClientConfiguration;
use node::cvmfs_client::shell::Values;

/// Parameter of the client: how many requests it serves at a time.
const THREADS: &str = "CVMFS_FUSE3_MAX_THREADS";
/// With this many threads, some are left when two processes of each of 110 pods (a kubelet's limit) wait for an object.
const ENOUGH_THREADS: u64 = 220;

/// Checks one repository. `root` is the snapshotter's.
pub(super) fn check(root: &Path, repository: &str, client: &ClientConfiguration) -> Result<String> {
    match client.parameters(repository) {
        Ok(values) => compare(root, repository, &values),
        Err(error) => Ok(format!("cannot find the client's cache: {error}")),
    }
}

fn compare(root: &Path, repository: &str, values: &Values) -> Result<String> {
    let cache = match client_cache(values, repository) {
        ClientCache::Directory(cache) | ClientCache::LowerTier(cache) => cache.path,
        ClientCache::Closed(what) => return Ok(format!("no shared file system: {what}")),
    };
    let same = device(&cache)? == device(root)?;
    let [cache, root] = [&cache, root].map(Path::display);
    if !same {
        return Ok(format!("cache {cache} and root {root} are on different file systems"));
    }
    let threads = values.get(THREADS).and_then(|value| value.trim().parse::<u64>().ok());
    if let Some(threads) = threads.filter(|threads| *threads >= ENOUGH_THREADS) {
        return Ok(format!(
            "cache {cache} and root {root} share a file system; {THREADS}={threads} is enough for that"
        ));
    }
    bail!(
        "cache {cache} and root {root} share a file system: the node can lock up when many containers of an image start at \
         once; move the cache to its own file system (CVMFS_CACHE_BASE), or set {THREADS}={ENOUGH_THREADS} or more and \
         remount; see \"Which file system\" in the documentation of the snapshotter"
    )
}

/// The device of a path, or of its nearest existing parent.
fn device(path: &Path) -> Result<u64> {
    for ancestor in path.ancestors() {
        match fs::metadata(ancestor) {
            Ok(found) => return Ok(found.dev()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(anyhow!("cannot read {}: {error}; run the check as root", ancestor.display())),
        }
    }
    bail!("{} is not an absolute path", path.display())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_shared_file_system_needs_enough_threads() {
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path().join("not/yet/there").display().to_string();
        let check = |extra: &[(&str, &str)]| {
            let values = [&[("CVMFS_CACHE_BASE", base.as_str())], extra].concat();
            let values = values.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            compare(&directory.path().join("root"), "x.test", &values)
        };
        let problem = check(&[]).unwrap_err().to_string();
        assert!(problem.contains("lock up") && problem.contains(&base) && problem.contains("=220"), "{problem}");
        assert!(check(&[(THREADS, "64")]).is_err());
        assert!(check(&[(THREADS, "220")]).unwrap().contains("is enough"));
        // /proc is another file system on every machine.
        assert!(check(&[("CVMFS_CACHE_BASE", "/proc/cache")]).unwrap().contains("different"));
        let memory = [("CVMFS_CACHE_PRIMARY", "mem"), ("CVMFS_CACHE_mem_TYPE", "ram")];
        assert!(check(&memory).unwrap().contains("memory"));
    }
}
