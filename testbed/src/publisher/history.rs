//! The history database: which revisions have names.

use super::written::Written;
use anyhow::{Context, Result};
use bundles::object::ContentHash;
use rusqlite::Connection;

const SCHEMA: &str = "
PRAGMA page_size = 4096;
CREATE TABLE properties (key TEXT, value TEXT, CONSTRAINT pk_properties PRIMARY KEY (key));
CREATE TABLE branches (branch TEXT, parent TEXT, initial_revision INTEGER,  CONSTRAINT pk_branch PRIMARY KEY (branch),   \
 FOREIGN KEY (parent) REFERENCES branches (branch),   CHECK ((branch <> '') OR (parent IS NULL)),   \
 CHECK ((branch = '') OR (parent IS NOT NULL)));
INSERT INTO branches VALUES ('', NULL, 0);
CREATE TABLE tags (name TEXT, hash TEXT, revision INTEGER,   timestamp INTEGER, channel INTEGER, description TEXT, \
 size INTEGER,   branch TEXT, CONSTRAINT pk_tags PRIMARY KEY (name),   FOREIGN KEY (branch) REFERENCES branches (branch));
CREATE TABLE recycle_bin (hash TEXT, flags INTEGER,   CONSTRAINT pk_hash PRIMARY KEY (hash));";

/// A published revision.
#[derive(Debug)]
pub(super) struct Revision {
    pub(super) number: u64,
    pub(super) root: Written,
    pub(super) published: u64,
}

/// A history with the tags `trunk` and, from the second revision on, `trunk-previous`.
pub(super) fn database(fqrn: &str, revisions: &[Revision], previous: Option<&ContentHash>) -> Result<Vec<u8>> {
    let (trunk, older) = revisions.split_last().context("there is no revision yet")?;
    let database = Connection::open_in_memory()?;
    database.execute_batch(SCHEMA)?;
    let previous = previous.map_or_else(|| "0".repeat(40), ToString::to_string);
    for (key, value) in
        [("schema", "1.0"), ("schema_revision", "3"), ("fqrn", fqrn), ("previous_revision", previous.as_str())]
    {
        database.execute("INSERT INTO properties VALUES (?1, ?2)", (key, value))?;
    }
    let tags =
        [older.last().map(|r| ("trunk-previous", r, "default undo target")), Some(("trunk", trunk, "current HEAD"))];
    for (name, revision, description) in tags.into_iter().flatten() {
        let (number, published) = (revision.number as i64, revision.published as i64);
        database.execute(
            "INSERT INTO tags VALUES (?1, ?2, ?3, ?4, 0, ?5, ?6, '')",
            (name, revision.root.hash.to_string(), number, published, description, revision.root.size as i64),
        )?;
    }
    Ok(database.serialize("main")?.to_vec())
}
