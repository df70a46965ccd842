//! Reading and writing our files as a whole.

use std::io::Write;
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
pub(crate) fn read<T>(path: &Path, decode: impl Fn(&[u8]) -> Result<T, BadFile>) -> Result<T, FileError> {
    let io = |source| FileError::Io { path: path.to_owned(), source };
    let bad = |source| FileError::Bad { path: path.to_owned(), source };
    let size = std::fs::metadata(path).map_err(io)?.len();
    if size > MAX_PAYLOAD as u64 + 4096 {
        return Err(bad(BadFile::TooLarge { kind: "file", size }));
    }
    decode(&std::fs::read(path).map_err(io)?).map_err(bad)
}

/// Writes `content` to a temporary file beside `path` and renames it, so that no reader ever sees a half of it.
pub(crate) fn write(path: &Path, content: Result<Vec<u8>, BadFile>) -> Result<(), FileError> {
    let content = content.map_err(|source| FileError::Bad { path: path.to_owned(), source })?;
    replace(path, &content).map_err(|source| FileError::Io { path: path.to_owned(), source })
}

fn replace(path: &Path, content: &[u8]) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut temporary = tempfile::NamedTempFile::new_in(directory)?;
    temporary.write_all(content)?;
    temporary.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
    temporary.as_file().sync_all()?;
    temporary.persist(path)?;
    Ok(())
}
