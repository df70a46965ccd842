//! Publishes local directory trees, as `cvmfs_server publish` does.

use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bundles::object::ObjectKind;

use super::chunks::Chunking;
use super::objects::Objects;
use super::tree::{Attributes, Chunk, Content, Directory, Node};

/// Reads `path` and what is below it and stores its files.
pub(super) fn read(path: &Path, chunking: Chunking, objects: &Objects) -> Result<Node> {
    let mut files = Vec::new();
    let mut node = skeleton(path, &mut files)?;
    let stored = objects.put_many(|store| {
        for (number, file) in files.iter().enumerate() {
            let content = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
            let pieces = chunking.cut(&content);
            let kind = if pieces.len() > 1 { ObjectKind::Chunk } else { ObjectKind::File };
            let mut offset = 0;
            for piece in pieces {
                store((number, offset), kind, piece.to_vec())?;
                offset += piece.len() as u64;
            }
        }
        Ok(())
    })?;
    let mut contents: Vec<Vec<Chunk>> = files.iter().map(|_| Vec::new()).collect();
    for ((number, offset), stored) in stored {
        contents[number].push(Chunk { offset, stored });
    }
    fill(&mut node, &mut contents.into_iter());
    Ok(node)
}

/// The tree with its files still empty; their paths are added to `files` in the order in which [`fill`] meets them.
fn skeleton(path: &Path, files: &mut Vec<PathBuf>) -> Result<Node> {
    let metadata = fs::symlink_metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    let kind = metadata.file_type();
    let (mode, mtime) = (metadata.mode() & 0o7777, metadata.mtime());
    let attributes = Attributes { mode, uid: metadata.uid(), gid: metadata.gid(), mtime };
    let content = if kind.is_dir() {
        let mut directory = Directory::default();
        let mut entries = fs::read_dir(path)?.collect::<Result<Vec<_>, _>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            directory.children.insert(entry.file_name().into_vec(), skeleton(&entry.path(), files)?);
        }
        Content::Directory(directory)
    } else if kind.is_symlink() {
        let target = fs::read_link(path)?.as_os_str().as_bytes().to_vec();
        Content::Link { size: target.len() as u64, target }
    } else if kind.is_file() {
        files.push(path.to_owned());
        Content::Chunked { size: 0, chunks: Vec::new() }
    } else {
        let device = if kind.is_char_device() || kind.is_block_device() { metadata.rdev() } else { 0 };
        Content::Special { kind: metadata.mode() & 0o170_000, device }
    };
    Ok(Node { attributes, content })
}

fn fill(node: &mut Node, contents: &mut impl Iterator<Item = Vec<Chunk>>) {
    match &mut node.content {
        Content::Directory(directory) => directory.children.values_mut().for_each(|child| fill(child, contents)),
        Content::Chunked { .. } => {
            let chunks = contents.next().unwrap_or_default();
            node.content = match chunks.as_slice() {
                [whole] => Content::File(whole.stored),
                _ => Content::Chunked { size: chunks.iter().map(|chunk| chunk.stored.raw_size).sum(), chunks },
            };
        }
        _ => {}
    }
}
