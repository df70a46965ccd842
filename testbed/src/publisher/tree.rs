//! The tree that the next revision will have.
//!
//! A directory with a file `.cvmfscatalog`, and the root, begins a catalog. What was written of a catalog is kept in its
//! directory and forgotten when anything below it changes, so a clean catalog has only clean ones below.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use bundles::object::ContentHash;
use bundles::path::RootPath;
use md5::{Digest, Md5};

use super::objects::Stored;
use super::written::Written;

/// The file that makes its directory the root of a catalog.
pub(super) const CATALOG_MARKER: &[u8] = b".cvmfscatalog";

/// An entry of the repository.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) attributes: Attributes,
    pub(super) content: Content,
}

/// What every entry has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attributes {
    /// Permission bits, without the type.
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Modification time in seconds since 1970.
    pub(super) mtime: i64,
}

/// Kind and content of an entry.
#[derive(Debug)]
pub(super) enum Content {
    Directory(Directory),
    File(Stored),
    Chunked {
        size: u64,
        chunks: Vec<Chunk>,
    },
    /// `size` is the target's length, or 0 in what `ingest` wrote.
    Link {
        target: Vec<u8>,
        size: u64,
    },
    /// A device, FIFO or socket, by the type bits of its mode.
    Special {
        kind: u32,
        device: u64,
    },
}

/// A piece of a chunked file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chunk {
    pub(super) offset: u64,
    pub(super) stored: Stored,
}

/// A directory.
#[derive(Debug, Default)]
pub(super) struct Directory {
    pub(super) children: BTreeMap<Vec<u8>, Node>,
    /// The catalog that begins here, as written last.
    pub(super) catalog: Catalog,
}

/// What is known of the catalog that begins in a directory.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    /// How often it was written.
    pub(super) revision: u64,
    /// The hash it had last.
    pub(super) previous: Option<ContentHash>,
    /// What was written, if nothing changed since.
    pub(super) written: Option<Written>,
}

impl Attributes {
    pub(super) fn file(mtime: u64) -> Self {
        Self { mode: 0o644, uid: 0, gid: 0, mtime: mtime as i64 }
    }

    pub(super) fn directory(mtime: u64) -> Self {
        Self { mode: 0o755, ..Self::file(mtime) }
    }
}

impl Node {
    pub(super) fn file(stored: Stored, mtime: u64) -> Self {
        Self { attributes: Attributes::file(mtime), content: Content::File(stored) }
    }

    /// A directory with the usual rights.
    pub(super) fn directory(directory: Directory, mtime: u64) -> Self {
        Self { attributes: Attributes::directory(mtime), content: Content::Directory(directory) }
    }
}

impl Directory {
    /// Whether a nested catalog begins here.
    pub(super) fn is_marked(&self) -> bool {
        self.children.get(CATALOG_MARKER).is_some_and(|node| matches!(node.content, Content::File(_)))
    }

    pub(super) fn find(&self, path: &RootPath) -> Option<&Node> {
        let (mut directory, mut found) = (Some(self), None);
        for name in path.components() {
            found = directory?.children.get(name);
            directory = match &found?.content {
                Content::Directory(below) => Some(below),
                _ => None,
            };
        }
        found
    }

    /// Puts `node` at `path` and creates missing parent directories. Existing directories keep their attributes.
    pub(super) fn put(&mut self, path: &RootPath, node: Node, now: u64) -> Result<()> {
        let Some((name, parents)) = split(path) else { bail!("the root cannot be replaced") };
        self.catalog.written = None;
        let mut directory = self;
        for parent in parents {
            let entry = directory.children.entry(parent.to_vec());
            let child = entry.or_insert_with(|| Node::directory(Directory::default(), now));
            let Content::Directory(below) = &mut child.content else {
                bail!("{:?} is not a directory", String::from_utf8_lossy(parent));
            };
            below.catalog.written = None;
            directory = below;
        }
        directory.children.insert(name.to_vec(), node);
        Ok(())
    }

    /// Removes what is at `path` and returns it.
    pub(super) fn remove(&mut self, path: &RootPath) -> Option<Node> {
        self.find(path)?;
        let (name, parents) = split(path)?;
        self.catalog.written = None;
        let mut directory = self;
        for parent in parents {
            let Content::Directory(below) = &mut directory.children.get_mut(parent)?.content else { return None };
            below.catalog.written = None;
            directory = below;
        }
        directory.children.remove(name)
    }
}

fn split(path: &RootPath) -> Option<(&[u8], Vec<&[u8]>)> {
    let mut components: Vec<&[u8]> = path.components().collect();
    Some((components.pop()?, components))
}

/// The MD5 of a path (`/a/b`, the root's is empty) as catalogs keep it: two little-endian integers.
pub(super) fn path_hash(path: &[u8]) -> (i64, i64) {
    let digest: [u8; 16] = Md5::digest(path).into();
    let number = u128::from_le_bytes(digest);
    (number as u64 as i64, (number >> 64) as u64 as i64)
}

/// The MD5 of a path in hex.
pub(super) fn path_hash_text(path: &[u8]) -> String {
    hex::encode(Md5::digest(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_hashes_are_those_of_a_real_catalog() {
        assert_eq!(path_hash(b""), (338_333_539_836_370_388, 9_098_107_892_288_553_193));
        assert_eq!(path_hash(b"/.layers"), (8_842_952_526_646_963_394, 4_742_453_028_789_924_623));
        assert_eq!(path_hash(b"/.flat"), (-1_672_359_806_093_716_708, -3_562_348_514_628_705_938));
    }
}
