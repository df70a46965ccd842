//! Whether a file is a bundle or a trace.

use std::io::{ErrorKind, Read};
use std::path::Path;

use anyhow::{Context, Result, bail};
use bundles::{bundle, trace};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileKind {
    Bundle,
    Trace,
}

impl FileKind {
    /// Reads the magic number of a file.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let mut start = [0; 4];
        let mut file = std::fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        match file.read_exact(&mut start) {
            Ok(()) if start == trace::FORMAT.magic => Ok(Self::Trace),
            Ok(()) if start == bundle::FORMAT.magic => Ok(Self::Bundle),
            Ok(()) => bail!("{} is neither a bundle nor a trace", path.display()),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                bail!("{} is neither a bundle nor a trace: it is shorter than 4 bytes", path.display())
            }
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_magic_number_decides() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        for (content, kind) in [(b"CPFB....".as_slice(), Some(FileKind::Bundle)), (b"#!/bin/sh", None), (b"CP", None)] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(FileKind::read(&path).ok(), kind, "{content:?}");
        }
        std::fs::write(&path, trace::FORMAT.magic).unwrap();
        assert_eq!(FileKind::read(&path).unwrap(), FileKind::Trace);
        assert!(FileKind::read(&directory.path().join("none")).unwrap_err().to_string().contains("none"));
    }
}
