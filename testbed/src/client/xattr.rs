//! The stock client's extended attributes about itself and about files.

use std::fmt::Write;

use anyhow::Result;

use super::entry::Entry;
use super::root::Root;
use super::tree::Tree;

/// Version of the stock client that this one imitates.
const VERSION: &str = "2.12.0.0";
/// The stock client's name for no proxy.
const NO_PROXY: &str = "DIRECT";

/// Shown for every file; listed for the root directory only, as the stock client does by default.
const ABOUT_THE_MOUNT: [&str; 10] = [
    "user.fqrn",
    "user.host",
    "user.host_list",
    "user.pid",
    "user.proxy",
    "user.proxy_list",
    "user.pubkeys",
    "user.revision",
    "user.root_hash",
    "user.version",
];

/// Facts about a mount.
#[derive(Debug)]
pub(super) struct MountFacts {
    pub(super) url: String,
    pub(super) proxy: Option<String>,
    pub(super) public_key: String,
}

/// The names that a listing shows, each ended by a NUL.
pub(super) fn list(is_root: bool) -> Vec<u8> {
    if !is_root {
        return Vec::new();
    }
    ABOUT_THE_MOUNT.iter().flat_map(|name| name.bytes().chain([0])).collect()
}

/// The value of the attribute `name` of the file `path`; `None` if there is no such attribute.
pub(super) fn get(
    name: &str,
    path: &str,
    entry: &Entry,
    facts: &MountFacts,
    root: &Root,
    tree: &Tree,
) -> Result<Option<String>> {
    let proxy = || facts.proxy.clone().unwrap_or_else(|| NO_PROXY.to_owned());
    let value = match name {
        "user.fqrn" => root.fqrn.clone(),
        "user.host" | "user.host_list" => facts.url.clone(),
        "user.pid" => std::process::id().to_string(),
        "user.proxy" | "user.proxy_list" => proxy(),
        "user.pubkeys" => facts.public_key.clone(),
        "user.revision" => root.revision.to_string(),
        "user.root_hash" => root.catalog.to_string(),
        "user.version" => VERSION.to_owned(),
        _ if entry.kind == fuser::FileType::RegularFile => return of_file(name, path, entry, tree),
        _ => return Ok(None),
    };
    Ok(Some(value))
}

fn of_file(name: &str, path: &str, entry: &Entry, tree: &Tree) -> Result<Option<String>> {
    Ok(match name {
        "user.hash" => entry.hash.map(|hash| hash.to_string()),
        "user.compression" => Some(if entry.compressed { "zlib" } else { "none" }.to_owned()),
        "user.external_file" => Some("0".to_owned()),
        "user.chunks" if entry.chunked => Some(tree.pieces(path)?.len().to_string()),
        "user.chunks" => Some("1".to_owned()),
        "user.chunk_list" => {
            let mut list = String::from("hash,offset,size\n");
            let whole = entry.object().map(|object| (object.hash, 0, entry.size));
            let pieces = if entry.chunked { tree.pieces(path)? } else { Vec::new() };
            let pieces = pieces.into_iter().map(|piece| (piece.object.hash, piece.offset, piece.size));
            for (hash, offset, size) in whole.into_iter().chain(pieces) {
                writeln!(list, "{hash},{offset},{size}")?;
            }
            Some(list)
        }
        _ => None,
    })
}
