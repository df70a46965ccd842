//! Extended attributes, by which a CVMFS client describes its repository and files.
//!
//! Source: `cvmfs/magic_xattr.cc` of CVMFS. Newer clients split long values into pages `<name>~0`, `<name>~1`, ...

use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Most pages of a list of chunks: 4 KB or more each, about 100 chunks per page.
const MAX_PAGES: usize = 10_000;

/// Most bytes of all pages together: a list of some 300,000 chunks.
const MAX_LENGTH: usize = 16 << 20;

/// A text that changes with the content of a file: its hash, if a client reports one, else size and time of change. Symbolic
/// links are followed. Blocks for as long as the mount does.
pub fn content_version(path: &Path) -> std::io::Result<String> {
    let metadata = std::fs::metadata(path)?;
    // Other file systems report a missing attribute in many ways.
    Ok(match attribute(path, "user.hash") {
        Ok(Some(hash)) => format!("hash {}", hash.trim()),
        _ => format!("size {} changed {}.{:09}", metadata.len(), metadata.mtime(), metadata.mtime_nsec()),
    })
}

/// An extended attribute as text, with all its pages; `None` if it does not exist. Symbolic links are followed, also those of
/// `/proc/self/fd`, by which a file is named that was opened before. Blocks for as long as the mount does.
pub fn attribute(path: &Path, name: &str) -> std::io::Result<Option<String>> {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).map_err(std::io::Error::other);
    if let Some(value) = xattr::get_deref(path, name)? {
        return text(value).map(Some);
    }
    let mut all = Vec::new();
    for page in 0..MAX_PAGES {
        match xattr::get_deref(path, format!("{name}~{page}"))? {
            Some(value) if all.len() + value.len() > MAX_LENGTH => {
                return Err(std::io::Error::other(format!("{name} has more than {MAX_LENGTH} bytes")));
            }
            Some(value) => all.extend(value),
            None if page == 0 => return Ok(None),
            None => break,
        }
    }
    text(all).map(Some)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn the_version_of_an_open_file_is_its_hash() {
        let file = tempfile::NamedTempFile::new().unwrap();
        xattr::set(file.path(), "user.hash", b"abc").unwrap();
        let open = format!("/proc/self/fd/{}", file.as_file().as_raw_fd());
        for path in [file.path(), Path::new(&open)] {
            assert_eq!(content_version(path).unwrap(), "hash abc");
            assert_eq!(attribute(path, "user.none").unwrap(), None);
        }
    }
}
