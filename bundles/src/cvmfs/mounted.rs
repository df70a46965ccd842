//! Information from a mounted client about its repository and files, by extended attributes.
//!
//! Source of their names: `cvmfs/magic_xattr.cc` of CVMFS.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::{Chunk, Content, ContentError, CvmfsError, Server};
use crate::attribute::attribute;
use crate::layout::is_repository_name;
use crate::object::ContentHash;
use crate::path::RootPath;

/// A repository that a client has mounted on this machine.
#[derive(Debug)]
pub struct MountedClient {
    root: PathBuf,
    name: String,
    server: Server,
}

impl MountedClient {
    /// Opens the repository mounted at `root`.
    pub fn at(root: &Path) -> Result<Self, CvmfsError> {
        let mounted = |reason: String| CvmfsError::MountedClient { path: root.to_owned(), reason };
        let value_of = |name: &str| {
            let value = attribute(root, name).map_err(|e| mounted(format!("{name}: {e}")))?;
            value.ok_or_else(|| mounted(format!("it has no attribute {name}; is a CVMFS client mounted there?")))
        };
        let name = value_of("user.fqrn")?;
        if !is_repository_name(&name) {
            return Err(mounted(format!("{name:?} is not a repository name")));
        }
        let proxy = value_of("user.proxy")?;
        let proxy = Some(proxy.as_str()).filter(|proxy| !matches!(*proxy, "DIRECT" | ""));
        let server = Server::new(&value_of("user.host")?, proxy)?;
        Ok(Self { root: root.to_owned(), name, server })
    }

    /// The repository's fully qualified name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The server that the client currently uses, through its proxy.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Size and content of the regular file at `path`; `None` if there is none. Symbolic links are not
    /// followed.
    pub fn content(&self, path: &RootPath) -> Result<Option<(u64, Content)>, CvmfsError> {
        let full = self.root.join(OsStr::from_bytes(&path.as_bytes()[1..]));
        let failed = |reason: String| CvmfsError::MountedClient { path: full.clone(), reason };
        let size = match std::fs::symlink_metadata(&full) {
            Ok(metadata) if metadata.is_file() => metadata.len(),
            Ok(_) => return Ok(None),
            Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(e) => return Err(failed(e.to_string())),
        };
        content_of(&full, size).map(|content| Some((size, content)))
    }
}

/// The content of the regular file `path` of a mounted repository, which has `size` bytes. Links in `path` are followed: a caller
/// that must stay below the mount passes a path to exactly one file.
pub fn content_of(path: &Path, size: u64) -> Result<Content, CvmfsError> {
    let failed = |reason: String| CvmfsError::MountedClient { path: path.to_owned(), reason };
    let value_of = |name: &str| attribute(path, name).map_err(|e| failed(format!("{name}: {e}")));
    if value_of("user.external_file")?.is_some_and(|external| external.trim() == "1") {
        return Ok(Content::External);
    }
    let compressed = value_of("user.compression")?.is_none_or(|how| how.trim() != "none");
    if let Some(hash) = value_of("user.hash")? {
        return Ok(Content::Whole { hash: hash.trim().parse()?, compressed });
    }
    let list = value_of("user.chunk_list")?.ok_or_else(|| failed("it has neither a hash nor chunks".into()))?;
    let chunks = chunks(&list, size).map_err(|e| failed(format!("user.chunk_list: {e}")))?;
    Ok(Content::Chunks { chunks, compressed })
}

/// Parses a list of chunks: a heading, then a line `hash,offset,size` for each. They must cover `size` bytes.
pub fn chunks(list: &str, size: u64) -> Result<Vec<Chunk>, ContentError> {
    let mut chunks = Vec::new();
    for line in list.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("hash,")) {
        let malformed = || ContentError::Line(line.to_owned());
        let mut columns = line.split(',');
        let (Some(hash), Some(offset), Some(length), None) =
            (columns.next(), columns.next(), columns.next(), columns.next())
        else {
            return Err(malformed());
        };
        let hash: ContentHash = hash.trim_end_matches('P').parse()?;
        let number = |text: &str| text.trim().parse::<u64>().map_err(|_| malformed());
        chunks.push(Chunk { offset: number(offset)?, size: number(length)?, hash });
    }
    Chunk::check_coverage(&chunks, size)?;
    Ok(chunks)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "e8ec3d88b62ebf526e4e5a4ff6162a3aa48a6b78";

    #[test]
    fn chunk_lists_must_cover_the_file() {
        let lines = |lines: &[(u64, u64)]| {
            let chunks: Vec<_> = lines.iter().map(|(offset, size)| format!("{A},{offset},{size}\n")).collect();
            format!("hash,offset,size\n{}\n", chunks.concat())
        };
        assert_eq!(chunks(&lines(&[(0, 5), (5, 2)]), 7).unwrap()[1].offset, 5);
        assert_eq!(chunks(&format!("{A}P,0,7\n"), 7).unwrap().len(), 1);
        for (bad, size) in [
            (lines(&[(0, 5), (6, 1)]), 7),
            (lines(&[(0, 5)]), 7),
            (format!("{A},0\n"), 7),
            (format!("{A},0,7,8\n"), 7),
            ("x,0,7\n".into(), 7),
            (format!("{A},a,7\n"), 7),
        ] {
            assert!(chunks(&bad, size).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_directory_without_a_client_is_an_error_that_names_it() {
        let directory = tempfile::tempdir().unwrap();
        let error = MountedClient::at(directory.path()).unwrap_err();
        let CvmfsError::MountedClient { path, reason } = &error else { panic!("{error:?}") };
        assert_eq!(path, directory.path());
        // A file system without extended attributes reports an error of its own, which names the attribute, too.
        assert!(reason.contains("user.fqrn"), "{error}");
        assert!(MountedClient::at(Path::new("/nonexistent")).unwrap_err().to_string().contains("/nonexistent"));
    }
}
