//! Layers, as `cvmfs_server ingest` (called by DUCC) leaves them.
//!
//! ```text
//! /.layers/.cvmfscatalog
//! /.layers/<2 hex>/.cvmfscatalog
//! /.layers/<2 hex>/<64 hex of the compressed layer>/layerfs/.cvmfscatalog   and the content of the tar file
//!                                                  /.metadata/layers.json
//! ```
//!
//! Nothing is chunked. Whiteouts stay plain files, hard links become separate files with the same object, devices and
//! FIFOs stay what they are, extended attributes are dropped, symbolic links have size 0.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use bundles::image::Digest;
use bundles::object::ObjectKind;
use bundles::path::RootPath;
use flate2::read::MultiGzDecoder;
use tar::{Archive, Entry, EntryType};

use super::objects::Objects;
use super::tree::{Attributes, CATALOG_MARKER, Content, Directory, Node};
use crate::images::Layer;

/// Path of a layer in the repository.
pub(super) fn path_of(digest: &Digest) -> Result<RootPath> {
    let hex = digest.hex();
    Ok(RootPath::new(format!("/.layers/{}/{hex}", &hex[..2]))?)
}

/// The content of `layers.json`.
pub(super) fn record(layer: &Layer) -> Result<Vec<u8>> {
    Ok(serde_json::to_vec_pretty(&serde_json::json!([{
        "id": layer.digest.hex(),
        "created": "2025-01-01T00:00:00Z",
        "compressed-diff-digest": layer.digest,
        "diff-digest": layer.diff_id,
        "diff-size": layer.diff_size,
    }]))?)
}

/// Stores the files of a compressed tar file and returns `layerfs`.
pub(super) fn read(blob: &Path, objects: &Objects, now: u64) -> Result<Node> {
    let context = || format!("cannot publish {}", blob.display());
    let mut skeleton = Skeleton::default();
    let stored = objects.put_many(|store| {
        let file = File::open(blob)?;
        let mut archive = Archive::new(MultiGzDecoder::new(file));
        for entry in archive.entries()? {
            skeleton.add(entry?, store)?;
        }
        Ok(())
    });
    // In the order of their paths, so directories come before what is in them.
    let mut root = Directory::default();
    for (path, node) in skeleton.others {
        root.put(&path, node, now).with_context(context)?;
    }
    for ((path, attributes), stored) in stored.with_context(context)? {
        root.put(&path, Node { attributes, content: Content::File(stored) }, now).with_context(context)?;
    }
    for (path, target) in skeleton.hard_links {
        let found =
            root.find(&target).with_context(|| format!("{path} is a hard link to {target}, which is missing"))?;
        let Content::File(stored) = &found.content else {
            bail!("{path} is a hard link to {target}, which is no file")
        };
        let node = Node { attributes: found.attributes, content: Content::File(*stored) };
        root.put(&path, node, now)?;
    }
    let marker = Node::file(objects.put(b"", ObjectKind::File)?, now);
    let attributes = Attributes { mode: 0o664, ..marker.attributes };
    root.children.insert(CATALOG_MARKER.to_vec(), Node { attributes, ..marker });
    Ok(Node::directory(root, now))
}

/// Everything except the content of regular files.
#[derive(Default)]
struct Skeleton {
    others: BTreeMap<RootPath, Node>,
    hard_links: Vec<(RootPath, RootPath)>,
}

type Store<'s> = &'s mut dyn FnMut((RootPath, Attributes), ObjectKind, Vec<u8>) -> Result<()>;

impl Skeleton {
    fn add(&mut self, mut entry: Entry<'_, MultiGzDecoder<File>>, store: Store<'_>) -> Result<()> {
        let path = normal(&entry.path()?)?;
        let header = entry.header();
        let attributes = Attributes {
            mode: header.mode()? & 0o7777,
            uid: u32::try_from(header.uid()?)?,
            gid: u32::try_from(header.gid()?)?,
            mtime: i64::try_from(header.mtime()?)?,
        };
        let special = |kind: u32| -> Result<Content> {
            let (major, minor) = (header.device_major()?.unwrap_or(0), header.device_minor()?.unwrap_or(0));
            Ok(Content::Special { kind, device: nix::sys::stat::makedev(major.into(), minor.into()) })
        };
        let content = match header.entry_type() {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let mut content = Vec::new();
                entry.read_to_end(&mut content)?;
                return store((path, attributes), ObjectKind::File, content);
            }
            EntryType::Link => {
                let target = entry.link_name()?.with_context(|| format!("hard link {path} has no target"))?;
                self.hard_links.push((path, normal(&target)?));
                return Ok(());
            }
            EntryType::Directory if path.parent().is_none() => return Ok(()),
            EntryType::Directory => Content::Directory(Directory::default()),
            EntryType::Symlink => {
                let target = entry.link_name_bytes().with_context(|| format!("symbolic link {path} has no target"))?;
                Content::Link { target: target.into_owned(), size: 0 }
            }
            EntryType::Char => special(0o020_000)?,
            EntryType::Block => special(0o060_000)?,
            EntryType::Fifo => Content::Special { kind: 0o010_000, device: 0 },
            other => bail!("{path} is of type {other:?}, which no layer should hold"),
        };
        self.others.insert(path, Node { attributes, content });
        Ok(())
    }
}

/// The path of a tar entry (`./a/b`, `a/b/`), from the root of the layer.
fn normal(path: &Path) -> Result<RootPath> {
    let mut bytes = Vec::new();
    for component in path.components() {
        match component {
            std::path::Component::Normal(name) => bytes.extend([b"/", name.as_bytes()].concat()),
            std::path::Component::CurDir | std::path::Component::RootDir => {}
            other => bail!("{path:?} has the component {other:?}"),
        }
    }
    if bytes.is_empty() {
        bytes.push(b'/');
    }
    Ok(RootPath::new(bytes)?)
}
