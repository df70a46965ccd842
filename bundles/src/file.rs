//! Reading and writing our files as a whole.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use crate::codec::{BadFile, MAX_PAYLOAD};

/// A file that could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The operating system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It was read, but its content is not right.
    #[error("{path}: {source}")]
    Bad {
        /// The file.
        path: PathBuf,
        /// Why.
        source: BadFile,
    },
}

/// Reads `path` and decodes it.
pub(crate) fn read<T>(path: &Path, decode: impl FnOnce(&[u8]) -> Result<T, BadFile>) -> Result<T, FileError> {
    let io = |source| FileError::Io { path: path.to_owned(), source };
    let bad = |source| FileError::Bad { path: path.to_owned(), source };
    // A repository's link may lead to a FIFO or a device, which would be waited for, or have no end.
    let metadata = std::fs::metadata(path).map_err(io)?;
    if !metadata.is_file() {
        return Err(io(std::io::Error::other("is no regular file")));
    }
    let size = metadata.len();
    if size > MAX_PAYLOAD as u64 + 4096 {
        return Err(bad(BadFile::TooLarge { kind: "file", size }));
    }
    let mut content = Vec::with_capacity(size as usize);
    File::open(path).and_then(|file| file.take(size + 1).read_to_end(&mut content)).map_err(io)?;
    decode(&content).map_err(bad)
}

/// Writes `content` to a temporary file beside `path` and renames it, so that no reader ever sees a half of it.
pub(crate) fn write(path: &Path, content: Result<Vec<u8>, BadFile>) -> Result<(), FileError> {
    let content = content.map_err(|source| FileError::Bad { path: path.to_owned(), source })?;
    replace(path, |file| file.write_all(&content)).map_err(|source| FileError::Io { path: path.to_owned(), source })
}

/// Makes `to` a copy of `from`, in the same way.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<(), FileError> {
    let io = |path: &Path, source| FileError::Io { path: path.to_owned(), source };
    let mut content = File::open(from).map_err(|e| io(from, e))?;
    replace(to, |file| std::io::copy(&mut content, file).map(drop)).map_err(|e| io(to, e))
}

/// Fills a temporary file beside `path` and renames it.
pub(crate) fn replace(path: &Path, fill: impl FnOnce(&mut File) -> std::io::Result<()>) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut temporary = tempfile::NamedTempFile::new_in(directory)?;
    fill(temporary.as_file_mut())?;
    temporary.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
    temporary.as_file().sync_all()?;
    temporary.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_is_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        for device in [directory.path(), Path::new("/dev/zero")] {
            let said = read(device, |_| Ok(())).unwrap_err().to_string();
            assert!(said.contains("no regular file"), "{said}");
        }
    }
}
