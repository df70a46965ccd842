//! Whether the CVMFS client's cache and the containers are on different file systems. On one, a node can lock up when many
//! containers start at once; docs/src/snapshotter.md, "Which file system", tells how.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use prefetcher::cvmfs_client::cache::{ClientCache, client_cache};
use prefetcher::cvmfs_client::parameters::ClientConfiguration;
use prefetcher::cvmfs_client::shell::Values;

/// How many requests the client serves at a time.
const THREADS: &str = "CVMFS_FUSE3_MAX_THREADS";
/// Two for each of the pods that a kubelet allows on a node, 110, wait for an object each before none is left to answer.
const ENOUGH: u64 = 220;

/// What was found, or what to do. `root` is the plugin's.
pub(super) fn look(root: &Path, repository: &str, client: &ClientConfiguration) -> Result<String, String> {
    match client.of(repository) {
        Ok(values) => compare(root, repository, &values),
        Err(error) => Ok(format!("not known where the cache is: {error}")),
    }
}

fn compare(root: &Path, repository: &str, values: &Values) -> Result<String, String> {
    let cache = match client_cache(values, repository) {
        ClientCache::Directory(cache) | ClientCache::LowerTier(cache) => cache.path,
        ClientCache::Closed(what) => return Ok(format!("nothing to share: {what}")),
    };
    let [of_cache, of_root] = [&cache, root].map(device);
    let (of_cache, of_root) = (of_cache?, of_root?);
    let [cache, root] = [&cache, root].map(Path::display);
    if of_cache != of_root {
        return Ok(format!("cache {cache} and root {root} are on different ones"));
    }
    let threads = values.get(THREADS).and_then(|value| value.trim().parse::<u64>().ok());
    if threads.is_some_and(|threads| threads >= ENOUGH) {
        return Ok(format!("cache {cache} and root {root} are on one, but the client has threads enough ({THREADS})"));
    }
    Err(format!(
        "cache {cache} and root {root} are on one: this node can lock up when many containers of an image start at once; give \
         the cache a file system of its own (CVMFS_CACHE_BASE), or set {THREADS}={ENOUGH} or more and remount; see \
         docs/src/snapshotter.md, \"Which file system\""
    ))
}

/// The device that a path is on, or will be once it is made.
fn device(path: &Path) -> Result<u64, String> {
    for there in path.ancestors() {
        match fs::metadata(there) {
            Ok(found) => return Ok(found.dev()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(format!("{}: {error}: run this as root", there.display())),
        }
    }
    Err(format!("{} is no absolute path", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_file_system_is_told_unless_the_client_has_threads_enough() {
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path().join("not/yet/there").display().to_string();
        let said = |extra: &[(&str, &str)]| {
            let values = [&[("CVMFS_CACHE_BASE", base.as_str())], extra].concat();
            let values = values.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            compare(&directory.path().join("root"), "x.test", &values)
        };
        let problem = said(&[]).unwrap_err();
        assert!(problem.contains("lock up") && problem.contains(&base) && problem.contains("=220"), "{problem}");
        assert!(said(&[(THREADS, "64")]).is_err());
        assert!(said(&[(THREADS, "220")]).unwrap().contains("threads enough"));
        // /proc is another one on every machine.
        assert!(said(&[("CVMFS_CACHE_BASE", "/proc/cache")]).unwrap().contains("different"));
        let memory = [("CVMFS_CACHE_PRIMARY", "mem"), ("CVMFS_CACHE_mem_TYPE", "ram")];
        assert!(said(&memory).unwrap().contains("memory"));
    }
}
