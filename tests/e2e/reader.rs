//! Our verifying reader against a repository of the real server and its listing by the real client.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use bundles::cvmfs::{Content, CvmfsError, Entry, EntryKind, MasterKey, Repository, Server};
use bundles::object::ObjectKind;
use bundles::path::RootPath;
use sha2::{Digest, Sha256};
use testbed::fixture::{self, FQRN, Listed};
use testbed::web::Origin;

async fn open(origin: &Origin, key: &str) -> Result<Repository, CvmfsError> {
    let address = origin
        .address_for("reader")
        .map_err(|e| CvmfsError::InvalidUrl { url: String::new(), reason: e.to_string() })?;
    let server = Server::new(&format!("http://{address}/{FQRN}"), None)?;
    Repository::open(server, &[MasterKey::read(Path::new(key))?]).await
}

fn key() -> String {
    fixture::public_key().display().to_string()
}

#[tokio::test]
async fn the_reader_sees_what_the_real_client_sees() -> Result<()> {
    let origin = Origin::start(&fixture::directory())?;
    let mut repository = open(&origin, &key()).await?;
    ensure!(repository.manifest().repository == FQRN && repository.manifest().revision == 9);
    let listing = fixture::listing()?;
    ensure!(listing.len() > 150);
    for listed in &listing {
        let path = RootPath::new(listed.path.as_str())?;
        let entry = repository.lookup(&path).await?.with_context(|| format!("{path} is not there"))?;
        compare(&mut repository, listed, &path, &entry).await.with_context(|| format!("{path} differs"))?;
    }
    let mut layers = 0;
    for layer in listing.iter().filter(|listed| listed.catalog.is_some() && listed.path.ends_with("/layerfs")) {
        let found = repository.whiteouts(&RootPath::new(layer.path.as_str())?).await?;
        let is_mark = |path: &&str| path.starts_with(&layer.path) && path.contains("/.wh.");
        let expected: Vec<&str> = listing.iter().map(|listed| listed.path.as_str()).filter(is_mark).collect();
        ensure!(found.iter().map(ToString::to_string).eq(expected), "{}: {found:?}", layer.path);
        layers += usize::from(!found.is_empty());
    }
    ensure!(layers == 1, "{layers} layers delete something");
    ensure!(count(&mut repository, RootPath::new("/")?).await? == listing.len(), "the reader lists other paths");
    Ok(())
}

async fn compare(repository: &mut Repository, listed: &Listed, path: &RootPath, entry: &Entry) -> Result<()> {
    let mode = listed.mode()?;
    ensure!(
        (entry.mode, entry.uid, entry.gid, entry.mtime.0) == (mode, listed.uid, listed.gid, listed.mtime),
        "{entry:?}"
    );
    match &entry.kind {
        EntryKind::Directory => {
            ensure!(listed.kind == "dir");
            let way = repository.nested_catalogs_for(path).await?;
            let own = way.last().filter(|catalog| catalog.mountpoint == *path).map(|catalog| catalog.hash.to_string());
            let listed_own = listed.catalog.clone().filter(|_| path.as_bytes() != b"/");
            ensure!(own == listed_own, "catalog {own:?}, listed {listed_own:?}");
        }
        EntryKind::Symlink(target) => {
            ensure!(listed.kind == "link" && Some(String::from_utf8_lossy(target).into_owned()) == listed.target);
        }
        EntryKind::File(content) => {
            ensure!(listed.kind == "file" && entry.size == listed.size);
            let bytes = read(repository, entry, content, listed).await?;
            ensure!(Some(hex::encode(Sha256::digest(bytes))) == listed.sha256, "content");
        }
        EntryKind::Special => anyhow::bail!("the fixture has no special files"),
    }
    Ok(())
}

async fn read(repository: &Repository, entry: &Entry, content: &Content, listed: &Listed) -> Result<Vec<u8>> {
    match content {
        Content::Whole { hash, compressed } => {
            ensure!(*compressed && Some(hash.to_string()) == listed.hash);
            Ok(repository.server().object(hash, ObjectKind::File, entry.size).await?)
        }
        Content::Chunks { chunks, compressed } => {
            ensure!(*compressed && listed.hash.is_none());
            let ours: Vec<_> =
                chunks.iter().map(|c| [c.hash.to_string(), c.offset.to_string(), c.size.to_string()]).collect();
            ensure!(Some(&ours) == listed.chunk_list.as_ref(), "chunks {ours:?}, listed {:?}", listed.chunk_list);
            let mut bytes = Vec::new();
            for chunk in chunks {
                bytes.extend(repository.server().object(&chunk.hash, ObjectKind::Chunk, chunk.size).await?);
            }
            Ok(bytes)
        }
        Content::External => anyhow::bail!("the fixture has no external files"),
    }
}

/// Number of paths at and below `path`, by listing directories.
async fn count(repository: &mut Repository, path: RootPath) -> Result<usize> {
    let (mut paths, mut open) = (0, vec![path]);
    while let Some(directory) = open.pop() {
        paths += 1;
        for entry in repository.list(&directory).await? {
            match entry.kind {
                EntryKind::Directory => open.push(directory.join(&entry.name)?),
                _ => paths += 1,
            }
        }
    }
    Ok(paths)
}

#[tokio::test]
async fn changed_or_foreign_signatures_are_refused() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let web_root = scratch.path();
    testbed::process::run(
        "cp",
        &[
            "-r",
            "--no-preserve=mode",
            &format!("{}/.", fixture::directory().display()),
            &web_root.display().to_string(),
        ],
    )?;
    let file = |name: &str| web_root.join(FQRN).join(name);
    let origin = Origin::start(web_root)?;
    open(&origin, &key()).await?;

    let other_key = scratch.path().join("other.pub");
    let other = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2048)?.to_public_key();
    std::fs::write(&other_key, rsa::pkcs8::EncodePublicKey::to_public_key_pem(&other, rsa::pkcs8::LineEnding::LF)?)?;
    let error = open(&origin, &other_key.display().to_string()).await.err().context("a foreign key was accepted")?;
    ensure!(error.to_string().contains("not signed by any of the 1 given master keys"), "{error}");

    let certificate = "data/6f/bdcf455761fdbb80678d47ae0628dd482f3788X";
    let root = "data/e5/9cb3e88a50978e5242b006ce2136bb14743f3cC";
    for (name, at) in [
        (".cvmfspublished", 50),
        (".cvmfspublished", 400),
        (".cvmfswhitelist", 20),
        (".cvmfswhitelist", 200),
        (certificate, 100),
        (root, 100),
    ] {
        let original = std::fs::read(file(name))?;
        let mut changed = original.clone();
        changed[at] ^= 1;
        std::fs::write(file(name), &changed)?;
        ensure!(open(&origin, &key()).await.is_err(), "{name} changed at {at} was accepted");
        std::fs::write(file(name), &original)?;
    }
    open(&origin, &key()).await?;
    Ok(())
}
