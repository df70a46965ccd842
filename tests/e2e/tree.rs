//! A layer's tar file, as the real publisher would unpack it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result};
use bundles::image::Digest;
use flate2::read::GzDecoder;
use tar::EntryType;

/// Path to (type and permissions, user, group, digest of the content or target of the link).
pub(crate) type Tree = BTreeMap<String, (u32, u32, u32, String)>;

/// Reads a compressed layer. Hard links become separate files, as in the publisher.
pub(crate) fn tree_of_layer(blob: &Path) -> Result<Tree> {
    let mut tree = Tree::new();
    let mut archive = tar::Archive::new(GzDecoder::new(File::open(blob)?));
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = format!("/{}", entry.path()?.display().to_string().trim_matches('/'));
        let header = entry.header();
        let (mode, uid, gid) = (header.mode()? & 0o7777, header.uid()? as u32, header.gid()? as u32);
        let target = entry.link_name()?.map(|target| target.display().to_string()).unwrap_or_default();
        let value = match header.entry_type() {
            EntryType::Directory => (0o040_000 | mode, uid, gid, String::new()),
            EntryType::Symlink => (0o120_777, uid, gid, target),
            EntryType::Fifo => (0o010_000 | mode, uid, gid, String::new()),
            EntryType::Char => (0o020_000 | mode, uid, gid, String::new()),
            EntryType::Block => (0o060_000 | mode, uid, gid, String::new()),
            EntryType::Link => {
                let target = format!("/{}", target.trim_matches('/'));
                tree.get(&target).with_context(|| format!("{path} links to {target}, which is not there"))?.clone()
            }
            _ => {
                let mut content = Vec::new();
                entry.read_to_end(&mut content)?;
                (0o100_000 | mode, uid, gid, Digest::sha256(&content).to_string())
            }
        };
        tree.insert(path, value);
    }
    Ok(tree)
}
