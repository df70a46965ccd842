//! The database as RocksDB sees it: column families, options, and the version of the layout.

use std::path::Path;

use rocksdb::{ColumnFamilyDescriptor, DB, DBCompressionType, ErrorKind, InfoLogger, LogLevel, Options};

use super::{SCHEMA, StoreError};

pub(super) const SCHEMA_KEY: &[u8] = b"schema";

pub(super) const BUNDLES: &str = "bundles";
pub(super) const MANIFESTS: &str = "manifests";
pub(super) const FACTS: &str = "facts";
pub(super) const PLACES: &str = "places";
const FAMILIES: [&str; 4] = [BUNDLES, MANIFESTS, FACTS, PLACES];

/// Bundles are few and small: small buffers and files keep an idle daemon small and make it cheap to free the
/// space of removed bundles.
const BUFFER: usize = 4 << 20;
const FILE: u64 = 8 << 20;

/// Options of a database that may be created.
pub(super) fn options() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_db_write_buffer_size(2 * BUFFER);
    // Otherwise rarely written families would keep the logs of the others.
    options.set_max_total_wal_size(4 * BUFFER as u64);
    options.set_keep_log_file_num(2);
    options.set_max_open_files(64);
    // Few threads, on any number of cores.
    options.set_max_background_jobs(2);
    options.set_max_file_opening_threads(1);
    options
}

fn families() -> impl Iterator<Item = ColumnFamilyDescriptor> {
    FAMILIES.into_iter().map(|name| {
        let mut options = Options::default();
        options.set_write_buffer_size(BUFFER);
        options.set_target_file_size_base(FILE);
        options.set_max_bytes_for_level_base(4 * FILE);
        options.set_compression_type(DBCompressionType::Lz4);
        ColumnFamilyDescriptor::new(name, options)
    })
}

/// Opens the database for writing.
pub(super) fn open(options: &Options, path: &Path) -> Result<DB, StoreError> {
    let new = !path.exists();
    let database = DB::open_cf_descriptors(options, path, families()).map_err(|e| failed(path, e))?;
    if new && let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        // RocksDB syncs the content of its directory, but not the directory's entry in its parent.
        let synced = std::fs::File::open(parent).and_then(|directory| directory.sync_all());
        synced.unwrap_or_else(|error| tracing::debug!(%error, "cannot sync the parent directory of the bundle store"));
    }
    Ok(database)
}

/// Opens the database for reading, also while another process writes.
pub(super) fn open_read_only(path: &Path) -> Result<DB, StoreError> {
    DB::open_cf_descriptors_read_only(&reading(), path, families(), false).map_err(|e| failed(path, e))
}

/// Without a logger of ours, RocksDB writes a log file even when only reading, and renames the one of the
/// writing process.
fn reading() -> Options {
    let mut options = Options::default();
    options
        .set_info_logger(InfoLogger::new_callback_logger(LogLevel::Warn, |_, line| tracing::debug!("RocksDB: {line}")));
    options
}

/// Layout version of the store in `path`; `None` if there is no store. A newer one is an error here, before a
/// database with unknown column families is opened.
pub(super) fn schema(path: &Path) -> Result<Option<u32>, StoreError> {
    if !path.join("CURRENT").exists() {
        return Ok(None);
    }
    let failed = |e| failed(path, e);
    let database = DB::open_for_read_only(&reading(), path, false).map_err(failed)?;
    let Some(value) = database.get(SCHEMA_KEY).map_err(failed)? else { return Ok(None) };
    match <[u8; 4]>::try_from(value.as_slice()).map(u32::from_le_bytes) {
        Ok(found) if found <= SCHEMA => Ok(Some(found)),
        Ok(found) => Err(StoreError::Newer { path: path.to_owned(), found: found.to_string() }),
        Err(_) => Err(StoreError::Newer { path: path.to_owned(), found: format!("{value:?}") }),
    }
}

pub(super) fn failed(path: &Path, source: rocksdb::Error) -> StoreError {
    let path = path.to_owned();
    match source.kind() {
        // RocksDB has no error kind for this.
        ErrorKind::IOError if source.as_ref().contains("lock") => StoreError::InUse { path },
        _ => StoreError::Database { path, source },
    }
}
