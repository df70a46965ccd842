//! The reference log: every catalog, certificate, history and meta information that was ever published. Garbage
//! collection on a server starts from it; clients do not read it.

use std::sync::Mutex;

use anyhow::{Result, anyhow, bail};
use bundles::object::{ContentHash, ObjectKind};
use rusqlite::Connection;

const SCHEMA: &str = "
PRAGMA page_size = 4096;
CREATE TABLE properties (key TEXT, value TEXT, CONSTRAINT pk_properties PRIMARY KEY (key));
INSERT INTO properties VALUES ('schema', '1.0'), ('schema_revision', '0');
CREATE TABLE refs (hash TEXT, type INTEGER, timestamp INTEGER, CONSTRAINT pk_refs PRIMARY KEY (hash));";

/// The log, kept in memory. (The lock only lets a repository be shared between threads.)
#[derive(Debug)]
pub(super) struct Reflog(Mutex<Connection>);

impl Reflog {
    pub(super) fn create(fqrn: &str) -> Result<Self> {
        let database = Connection::open_in_memory()?;
        database.execute_batch(SCHEMA)?;
        database.execute("INSERT INTO properties VALUES ('fqrn', ?1)", [fqrn])?;
        Ok(Self(Mutex::new(database)))
    }

    pub(super) fn add(&self, hash: &ContentHash, kind: ObjectKind, now: u64) -> Result<()> {
        let kind = match kind {
            ObjectKind::Catalog => 0,
            ObjectKind::Certificate => 1,
            ObjectKind::History => 2,
            ObjectKind::Metainfo => 3,
            ObjectKind::File | ObjectKind::Chunk => bail!("{hash} is no kind of object for a reference log"),
        };
        let database = self.0.lock().map_err(|_| anyhow!("a thread panicked"))?;
        database.execute("INSERT OR IGNORE INTO refs VALUES (?1, ?2, ?3)", (hash.to_string(), kind, now as i64))?;
        Ok(())
    }

    /// The database file.
    pub(super) fn bytes(&self) -> Result<Vec<u8>> {
        Ok(self.0.lock().map_err(|_| anyhow!("a thread panicked"))?.serialize("main")?.to_vec())
    }
}
