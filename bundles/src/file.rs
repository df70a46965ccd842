//! Reading and writing our files as a whole.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileTypeExt;
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

/// The most bytes of a file: the largest payload, and what is around it.
const MAX_FILE: u64 = MAX_PAYLOAD as u64 + 4096;

/// Reads `path` and decodes it.
pub(crate) fn read<T>(path: &Path, decode: impl FnOnce(&[u8]) -> Result<T, BadFile>) -> Result<T, FileError> {
    let io = |source| FileError::Io { path: path.to_owned(), source };
    let bad = |source| FileError::Bad { path: path.to_owned(), source };
    let too_large = |size| bad(BadFile::TooLarge { kind: "file", size });
    let metadata = std::fs::metadata(path).map_err(io)?;
    // A repository's link may lead anywhere; a device may have no end.
    if metadata.file_type().is_char_device() || metadata.file_type().is_block_device() {
        return Err(io(std::io::Error::other("is a device")));
    }
    if metadata.len() > MAX_FILE {
        return Err(too_large(metadata.len()));
    }
    let mut content = Vec::with_capacity(metadata.len() as usize);
    File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut content)).map_err(io)?;
    if content.len() as u64 > MAX_FILE {
        return Err(too_large(content.len() as u64));
    }
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
    fn what_has_no_end_is_not_read() {
        let said = read(Path::new("/dev/zero"), |_| Ok(())).unwrap_err().to_string();
        assert!(said.contains("is a device"), "{said}");
        let directory = tempfile::tempdir().unwrap();
        let sparse = directory.path().join("sparse");
        File::create(&sparse).unwrap().set_len(MAX_FILE + 1).unwrap();
        assert!(matches!(read(&sparse, |_| Ok(())), Err(FileError::Bad { source: BadFile::TooLarge { .. }, .. })));
        assert!(matches!(read(directory.path(), |_| Ok(())), Err(FileError::Io { .. })));
    }
}
