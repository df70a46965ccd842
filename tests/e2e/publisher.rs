//! The testbed's publisher against our verifying reader.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bundles::cvmfs::{Content, EntryKind, MasterKey, Repository, Server};
use bundles::object::ObjectKind;
use bundles::path::RootPath;
use testbed::images::{self, Layer};
use testbed::publisher::Chunking;
use testbed::site::{FQRN, Site, image_cache, label, with_round_trip};

use crate::tree::{Tree, tree_of_layer};

async fn open(site: &Site) -> Result<Repository> {
    let url = format!("http://{}/cvmfs/{FQRN}", site.origin.address_for(label::BUILDER)?);
    let key = MasterKey::read(site.repository.public_key())?;
    Ok(Repository::open(Server::new(&url, None)?, &[key]).await?)
}

/// All entries below `root`, as found by the reader.
async fn read(repository: &mut Repository, root: &RootPath) -> Result<Tree> {
    let (mut tree, mut open) = (BTreeMap::new(), vec![RootPath::new("/")?]);
    while let Some(directory) = open.pop() {
        for entry in repository.list(&root.append(&directory)?).await? {
            let path = directory.join(&entry.name)?;
            let value = match &entry.kind {
                EntryKind::Directory => {
                    open.push(path.clone());
                    String::new()
                }
                EntryKind::Symlink(target) => String::from_utf8_lossy(target).into_owned(),
                EntryKind::Special => String::new(),
                EntryKind::File(content) => {
                    bundles::image::Digest::sha256(&bytes(repository, entry.size, content).await?).to_string()
                }
            };
            tree.insert(path.to_string(), (entry.mode, entry.uid, entry.gid, value));
        }
    }
    Ok(tree)
}

async fn bytes(repository: &Repository, size: u64, content: &Content) -> Result<Vec<u8>> {
    let server = repository.server();
    match content {
        Content::Whole { hash, .. } => Ok(server.object(hash, ObjectKind::File, size).await?),
        Content::Chunks { chunks, .. } => {
            let mut all = Vec::new();
            for chunk in chunks {
                all.extend(server.object(&chunk.hash, ObjectKind::Chunk, chunk.size).await?);
            }
            Ok(all)
        }
        Content::External => anyhow::bail!("the publisher makes no external files"),
    }
}

fn root_of(layer: &Layer) -> Result<RootPath> {
    let hex = layer.digest.hex();
    Ok(RootPath::new(format!("/.layers/{}/{hex}/layerfs", &hex[..2]))?)
}

#[test]
fn the_verifying_reader_accepts_the_testbeds_repositories() {
    testbed::namespace::test(|| async {
        let mut site = Site::start("site", with_round_trip(Duration::ZERO)).await?;
        let image = images::whiteouts(&image_cache()?)?;
        site.publish(&image).await?;
        let mut repository = open(&site).await?;
        for layer in &image.layers {
            let root = root_of(layer)?;
            let catalogs = repository.nested_catalogs_for(&root).await?;
            let mountpoints: Vec<_> = catalogs.iter().map(|catalog| catalog.mountpoint.to_string()).collect();
            let shelf = root.parent().and_then(|p| p.parent()).context("no shelf")?;
            ensure!(mountpoints == ["/.layers".to_owned(), shelf.to_string(), root.to_string()], "{mountpoints:?}");
            let (expected, found) = (tree_of_layer(&layer.blob)?, read(&mut repository, &root).await?);
            for (path, entry) in &expected {
                ensure!(found.get(path) == Some(entry), "{path}: {:?}, in the layer {entry:?}", found.get(path));
            }
            let added: Vec<_> = found.keys().filter(|path| !expected.contains_key(*path)).collect();
            ensure!(added == ["/.cvmfscatalog"], "{added:?}");
        }
        Ok(())
    });
}

#[test]
fn a_chunked_tree_is_read_back_and_an_older_revision_stays_valid() {
    testbed::namespace::test(|| async {
        let mut site = Site::start("site", with_round_trip(Duration::ZERO)).await?;
        let local = site.directory.subdirectory("flat")?;
        let content: Vec<u8> = (0..500_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        std::fs::write(local.join("model.bin"), &content)?;
        std::fs::write(local.join("small"), b"small")?;
        let sizes = Chunking::Sizes { min: 16 << 10, avg: 48 << 10, max: 96 << 10 };
        site.repository.put_tree(".flat/aa/image", Path::new(&local), sizes)?;
        site.repository.commit()?;
        let mut before = open(&site).await?;
        let entry = before.lookup(&RootPath::new("/.flat/aa/image/model.bin")?).await?.context("it is not there")?;
        let EntryKind::File(Content::Chunks { chunks, .. }) = &entry.kind else {
            anyhow::bail!("not chunked: {entry:?}")
        };
        ensure!(chunks.len() > 10 && chunks.iter().all(|chunk| chunk.size <= 96 << 10));
        ensure!(read(&mut before, &RootPath::new("/.flat/aa/image")?).await?.len() == 2);

        site.repository.remove_tree(".flat/aa/image")?;
        site.repository.commit()?;
        let mut after = open(&site).await?;
        ensure!(after.manifest().revision == before.manifest().revision + 1);
        ensure!(after.lookup(&RootPath::new("/.flat/aa/image")?).await?.is_none());
        ensure!(before.lookup(&RootPath::new("/.flat/aa/image/small")?).await?.is_some());
        Ok(())
    });
}
