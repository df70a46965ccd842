//! Writes a genuine CVMFS repository, as its server tools do, into a directory that a web server can serve.
//!
//! ```text
//! <web root>/                     .../cvmfs/<fqrn>
//!   .cvmfspublished               manifest, signed with the certificate's key      [`keys`]
//!   .cvmfswhitelist               which certificate may sign, signed with the master key
//!   .cvmfsreflog                  which catalogs, histories, ... there ever were   [`reflog`]
//!   .cvmfs_last_snapshot, .cvmfs_is_snapshotting, .cvmfs_master_replica
//!   data/<2 hex>/<38 hex><kind>   objects, zlib-compressed                         [`objects`]
//! <web root>.keys/<fqrn>.pub      the master key's public part (the private keys stay in memory)
//! ```
//!
//! Changes gather in a tree in memory ([`tree`]); [`Repository::commit`] writes the catalogs of what changed
//! ([`catalog`]), the history and last the manifest, so a reader sees the old revision or the new one.
//!
//! The formats were taken from a repository written by cvmfs_server 2.12; differences are the deflate implementation
//! (other bytes, other hashes, same content) and a version 3 certificate.

mod catalog;
mod chunks;
mod history;
mod keys;
mod layer;
mod local;
mod objects;
mod reflog;
mod tree;
mod written;

pub use chunks::Chunking;

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use bundles::object::{ContentHash, ObjectKind};
use bundles::path::RootPath;

use crate::images::{Image, Layer};

use keys::Keys;
use objects::Objects;
use reflog::Reflog;
use tree::{Attributes, Content, Directory, Node};
use written::Written;

/// How long a client may believe a manifest, in seconds.
const TIME_TO_LIVE: u64 = 240;

/// A repository and the tree of its next revision.
#[derive(Debug)]
pub struct Repository {
    fqrn: String,
    objects: Objects,
    keys: Keys,
    public_key: PathBuf,
    certificate: ContentHash,
    metainfo: ContentHash,
    root: Directory,
    root_attributes: Attributes,
    reflog: Reflog,
    /// History databases hold the last two revisions, as with a server that keeps no automatic tags.
    revisions: Vec<history::Revision>,
    history: Option<ContentHash>,
}

impl Repository {
    /// Creates an empty repository with new keys and publishes its first revision. `web_root` ends in `cvmfs/<fqrn>`.
    pub fn create(web_root: &Path, fqrn: &str) -> Result<Self> {
        ensure!(web_root.ends_with(Path::new("cvmfs").join(fqrn)), "{web_root:?} does not end in cvmfs/{fqrn}");
        let objects = Objects::create(web_root)?;
        let keys = Keys::generate(fqrn)?;
        let key_directory = web_root.with_file_name(format!("{fqrn}.keys"));
        std::fs::create_dir_all(&key_directory)?;
        let public_key = key_directory.join(format!("{fqrn}.pub"));
        std::fs::write(&public_key, keys.public_master_key()?)?;

        let now = now()?;
        objects.write_root_file(".cvmfswhitelist", &keys.whitelist(fqrn, now)?)?;
        let date = keys::Date::at(now)?;
        for name in [".cvmfs_last_snapshot", ".cvmfs_is_snapshotting"] {
            objects.write_root_file(name, format!("{}\n", date.for_people()).as_bytes())?;
        }
        let replica = "This file marks the repository as replicatable to stratum 1 servers\n";
        objects.write_root_file(".cvmfs_master_replica", replica.as_bytes())?;
        let certificate = objects.put(keys.certificate(), ObjectKind::Certificate)?.hash;
        let metainfo = objects.put(&metainfo(fqrn)?, ObjectKind::Metainfo)?.hash;
        let reflog = Reflog::create(fqrn)?;
        reflog.add(&certificate, ObjectKind::Certificate, now)?;
        reflog.add(&metainfo, ObjectKind::Metainfo, now)?;
        let mut repository = Self {
            fqrn: fqrn.to_owned(),
            objects,
            keys,
            public_key,
            certificate,
            metainfo,
            root: Directory::default(),
            root_attributes: Attributes::directory(now),
            reflog,
            revisions: Vec::new(),
            history: None,
        };
        repository.commit()?;
        Ok(repository)
    }

    /// The fully qualified repository name.
    pub fn fqrn(&self) -> &str {
        &self.fqrn
    }

    /// The master key's public part (PEM), what a client is configured with.
    pub fn public_key(&self) -> &Path {
        &self.public_key
    }

    /// The newest revision.
    pub fn revision(&self) -> u64 {
        self.revisions.last().map_or(0, |revision| revision.number)
    }

    /// Unpacks a layer as `cvmfs_server ingest` does; returns the path of its `layerfs`. See [`layer`].
    pub fn publish_layer(&mut self, layer: &Layer) -> Result<RootPath> {
        let now = now()?;
        let base = layer::path_of(&layer.digest)?;
        let layerfs = base.join(b"layerfs")?;
        if self.root.find(&layerfs).is_some() {
            return Ok(layerfs);
        }
        let tree = layer::read(&layer.blob, &self.objects, now)?;
        for nested in ["/.layers".to_owned(), format!("/.layers/{}", &layer.digest.hex()[..2])] {
            self.put_catalog(&nested)?;
        }
        self.put(&layerfs, tree)?;
        let record = self.objects.put(&layer::record(layer)?, ObjectKind::File)?;
        self.put(&base.join(b".metadata")?.join(b"layers.json")?, Node::file(record, now))?;
        Ok(layerfs)
    }

    /// The object of a published layer's `layers.json`.
    pub fn layer_metadata(&self, layer: &Layer) -> Result<ContentHash> {
        let path = layer::path_of(&layer.digest)?.join(b".metadata")?.join(b"layers.json")?;
        match self.root.find(&path).map(|node| &node.content) {
            Some(Content::File(stored)) => Ok(stored.hash),
            _ => bail!("{path} is not published"),
        }
    }

    /// Publishes all layers of `image` and its manifest as `.metadata/<registry>/<repository>:<tag>/manifest.json`.
    pub fn publish_image(&mut self, image: &Image, registry: &str) -> Result<()> {
        for layer in &image.layers {
            self.publish_layer(layer)?;
        }
        let path = format!("/.metadata/{}/manifest.json", image.reference(registry));
        self.put_file(&path, &image.manifest)
    }

    /// Copies the file, link or directory `local` to `path`, as `cvmfs_server publish` does, and replaces what is there. A file
    /// `.cvmfscatalog` makes its directory the root of a nested catalog.
    pub fn put_tree(&mut self, path: &str, local: &Path, chunking: Chunking) -> Result<()> {
        let node = local::read(local, chunking, &self.objects)?;
        self.put(&repository_path(path)?, node)
    }

    /// Writes a file with this content at `path`.
    pub fn put_file(&mut self, path: &str, content: &[u8]) -> Result<()> {
        let stored = self.objects.put(content, ObjectKind::File)?;
        self.put(&repository_path(path)?, Node::file(stored, now()?))
    }

    /// Stores an object without adding it to a catalog; `stored` are its stored bytes. Returns its path.
    pub fn put_stored(&self, stored: &[u8], kind: ObjectKind) -> Result<PathBuf> {
        let path = self.objects.path(&ContentHash::sha1_of(stored), kind);
        std::fs::write(&path, stored).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// Creates a symbolic link at `path`.
    pub fn put_symlink(&mut self, path: &str, target: &str) -> Result<()> {
        let content = Content::Link { target: target.into(), size: target.len() as u64 };
        let node = Node { attributes: Attributes { mode: 0o777, ..Attributes::file(now()?) }, content };
        self.put(&repository_path(path)?, node)
    }

    /// Makes the directory `path` the root of a nested catalog; creates it if missing.
    pub fn put_catalog(&mut self, path: &str) -> Result<()> {
        let (marker, now) = (repository_path(path)?.join(tree::CATALOG_MARKER)?, now()?);
        if self.root.find(&marker).is_some() {
            return Ok(());
        }
        let empty = self.objects.put(b"", ObjectKind::File)?;
        self.put(&marker, Node::file(empty, now))
    }

    /// Removes `path` and everything below. Its objects stay, because older revisions use them.
    pub fn remove_tree(&mut self, path: &str) -> Result<()> {
        let path = repository_path(path)?;
        self.root.remove(&path).with_context(|| format!("{path} is not in the repository"))?;
        Ok(())
    }

    /// Publishes a new revision. Only changed catalogs are written.
    pub fn commit(&mut self) -> Result<()> {
        let (now, number) = (now()?, self.revision() + 1);
        let mut written = Vec::new();
        let root = catalog::write((&mut self.root, &self.root_attributes), &self.objects, now, number, &mut written)?;
        self.reflog.add(&root.hash, ObjectKind::Catalog, now)?;
        self.revisions.push(history::Revision { number, root: root.clone(), published: now });
        let database = history::database(&self.fqrn, &self.revisions, self.history.as_ref())?;
        let history = self.objects.put(&database, ObjectKind::History)?.hash;
        self.reflog.add(&history, ObjectKind::History, now)?;
        self.history = Some(history);
        let reflog = self.reflog.bytes()?;
        self.objects.write_root_file(".cvmfsreflog", &reflog)?;
        let manifest = self.manifest(&root, now, number, &history, &reflog);
        self.objects.write_root_file(".cvmfspublished", &self.keys.sign_manifest(&manifest)?)?;
        tracing::debug!(fqrn = self.fqrn, revision = number, catalogs = written.len(), "published");
        Ok(())
    }

    /// Path of a stored object.
    pub fn object_path(&self, hash: &ContentHash, kind: ObjectKind) -> PathBuf {
        self.objects.path(hash, kind)
    }

    /// Changes one byte of a stored object, but not its size and name.
    pub fn corrupt_object(&self, hash: &ContentHash, kind: ObjectKind) -> Result<()> {
        self.objects.corrupt(hash, kind)
    }

    fn manifest(&self, root: &Written, now: u64, number: u64, history: &ContentHash, reflog: &[u8]) -> String {
        let Self { fqrn, certificate, metainfo, .. } = self;
        let Written { hash, size, .. } = root;
        let (root_path, reflog) = (tree::path_hash_text(b""), ContentHash::sha1_of(reflog));
        format!(
            "C{hash}\nB{size}\nR{root_path}\nD{TIME_TO_LIVE}\nS{number}\nGno\nAno\nN{fqrn}\nX{certificate}\n\
             H{history}\nT{now}\nM{metainfo}\nY{reflog}\n"
        )
    }

    fn put(&mut self, path: &RootPath, node: Node) -> Result<()> {
        ensure!(path.parent().is_some(), "the root of a repository cannot be replaced");
        self.root.put(path, node, now()?).with_context(|| format!("cannot put {path}"))
    }
}

fn repository_path(path: &str) -> Result<RootPath> {
    let path = format!("/{}", path.trim_matches('/'));
    Ok(RootPath::new(path)?)
}

fn now() -> Result<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())
}

fn metainfo(fqrn: &str) -> Result<Vec<u8>> {
    Ok(serde_json::to_vec_pretty(&serde_json::json!({
        "administrator": "testbed",
        "email": "root@localhost",
        "organisation": "cvmfs-prefetch",
        "description": format!("Container image layers of {fqrn}"),
    }))?)
}

#[cfg(test)]
mod tests;
