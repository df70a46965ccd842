//! The cache directory, laid out as the stock client's POSIX cache.
//!
//! ```text
//! <cache>/00 .. ff/<38 hex>   content, decompressed; the name is the hash of the stored (compressed) bytes
//! <cache>/txn/                objects being written
//! ```
//!
//! An object gets its name by a rename, so a name always stands for a whole object, whoever writes it. A named object is never
//! verified again.

use std::fs::{DirBuilder, File};
use std::io::{ErrorKind, Result, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use bundles::object::ContentHash;

const TRANSACTIONS: &str = "txn";

#[derive(Debug)]
pub(super) struct Cache(PathBuf);

impl Cache {
    /// Opens the cache in `directory` and creates missing directories of its layout.
    pub(super) fn open(directory: &Path) -> Result<Self> {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        for prefix in 0..=0xff_u8 {
            builder.create(directory.join(format!("{prefix:02x}")))?;
        }
        builder.create(directory.join(TRANSACTIONS))?;
        Ok(Self(directory.to_owned()))
    }

    pub(super) fn directory(&self) -> &Path {
        &self.0
    }

    /// The path of the object `hash`, whether it is cached or not.
    pub(super) fn path(&self, hash: &ContentHash) -> PathBuf {
        self.0.join(hash.cache_path())
    }

    /// The object's content; `None` if it is not cached.
    pub(super) fn get(&self, hash: &ContentHash) -> Result<Option<File>> {
        match File::open(self.path(hash)) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Stores the content of an object, which the caller has verified.
    pub(super) fn put(&self, hash: &ContentHash, content: &[u8]) -> Result<()> {
        // Mode 0600, as in the stock client.
        let mut file = tempfile::Builder::new().prefix("fetch").tempfile_in(self.0.join(TRANSACTIONS))?;
        file.write_all(content)?;
        file.persist(self.path(hash)).map_err(|error| error.error)?;
        Ok(())
    }
}
