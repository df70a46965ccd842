//! Reading and writing whole files.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use crate::codec::{FormatError, MAX_PAYLOAD};

/// A file cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// An operation of the operating system failed.
    #[error("{path}: {source}")]
    Io {
        /// The file that failed.
        path: PathBuf,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// The content is not a valid file of its format.
    #[error("{path}: {source}")]
    Format {
        /// The file that failed.
        path: PathBuf,
        /// What is wrong with the content.
        source: FormatError,
    },
}

/// Largest file that is read: the largest payload, and the envelope around it.
pub const MAX_FILE: u64 = MAX_PAYLOAD as u64 + 4096;

/// Reads the file `path` and decodes it.
pub(crate) fn read<T>(path: &Path, decode: impl FnOnce(&[u8]) -> Result<T, FormatError>) -> Result<T, FileError> {
    let io = |source| FileError::Io { path: path.to_owned(), source };
    let bad = |source| FileError::Format { path: path.to_owned(), source };
    let too_large = |size| bad(FormatError::TooLarge { kind: "file", size });
    let metadata = std::fs::metadata(path).map_err(io)?;
    // A link in a repository may lead anywhere, and reading a device may never end.
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

/// Writes `content` to a temporary file beside `path` and renames it, so that readers never see half a file.
pub(crate) fn write(path: &Path, content: Result<Vec<u8>, FormatError>) -> Result<(), FileError> {
    let content = content.map_err(|source| FileError::Format { path: path.to_owned(), source })?;
    replace(path, |file| file.write_all(&content)).map_err(|source| FileError::Io { path: path.to_owned(), source })
}

/// Copies `from` to `to` in the same way.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<(), FileError> {
    let io = |path: &Path, source| FileError::Io { path: path.to_owned(), source };
    let mut content = File::open(from).map_err(|e| io(from, e))?;
    replace(to, |file| std::io::copy(&mut content, file).map(drop)).map_err(|e| io(to, e))
}

/// Fills a temporary file beside `path`, syncs it and renames it.
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
    fn devices_and_oversized_files_are_refused() {
        let message = read(Path::new("/dev/zero"), |_| Ok(())).unwrap_err().to_string();
        assert!(message.contains("is a device"), "{message}");
        let directory = tempfile::tempdir().unwrap();
        let sparse = directory.path().join("sparse");
        File::create(&sparse).unwrap().set_len(MAX_FILE + 1).unwrap();
        assert!(matches!(
            read(&sparse, |_| Ok(())),
            Err(FileError::Format { source: FormatError::TooLarge { .. }, .. })
        ));
        assert!(matches!(read(directory.path(), |_| Ok(())), Err(FileError::Io { .. })));
    }
}
