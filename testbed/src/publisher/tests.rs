//! Published repositories are read back by two readers: the crate `cvmfs` (not ours) and the verifying reader of `bundles`.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use bundles::cvmfs::{self as reader, EntryKind, MasterKey, Server};
use bundles::object;
use rand::{RngCore, SeedableRng, rngs::StdRng};
use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::images::{ImageBuilder, LayerTar, Owner};
use crate::web::Origin;

const FQRN: &str = "layers.example.test";

struct Site {
    directory: TempDir,
    repository: Repository,
    origin: Origin,
}

impl Site {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let web_root = directory.path().join("web/cvmfs").join(FQRN);
        let repository = Repository::create(&web_root, FQRN).unwrap();
        let origin = Origin::start(&directory.path().join("web")).unwrap();
        Self { directory, repository, origin }
    }

    fn url(&self) -> String {
        format!("http://{}/cvmfs/{FQRN}", self.origin.address_for("test").unwrap())
    }

    fn layer(&self, fill: impl FnOnce(&mut LayerTar) -> Result<()>) -> Layer {
        let image = ImageBuilder::new("demo/test", "1").layer(fill).build(self.directory.path()).unwrap();
        image.layers[0].clone()
    }

    /// Every path below `top` as the crate `cvmfs` reads it: mode, size and content (or target).
    fn listing(&self, top: &str) -> BTreeMap<String, (u32, Vec<u8>)> {
        let cache = tempfile::tempdir().unwrap();
        let fetcher = ::cvmfs::fetcher::Fetcher::new(&self.url(), cache.path().to_str().unwrap(), true).unwrap();
        // That crate's read-ahead writes a chunk in place while its reader opens it, and the reader then overflows:
        // with all chunks in its cache beforehand nothing is read ahead.
        for chunk in self.paths_of_kind("P") {
            fetcher.retrieve_file(chunk.strip_prefix(self.web_root()).unwrap().to_str().unwrap()).unwrap();
        }
        let repository = ::cvmfs::repository::Repository::new(fetcher).unwrap();
        let (mut listing, mut directories) = (BTreeMap::new(), vec![top.to_owned()]);
        while let Some(directory) = directories.pop() {
            for entry in repository.list_directory(&directory).unwrap() {
                let path = format!("{directory}/{}", entry.name);
                let content = match &entry.symlink {
                    Some(target) if entry.is_symlink() => target.clone().into_bytes(),
                    _ if entry.mode & 0o170_000 == 0o100_000 => {
                        let file = repository.get_file(&path).unwrap();
                        assert_eq!(file.file_size(), entry.size as u64, "{path}");
                        let mut content = vec![0; entry.size as usize];
                        let mut at = 0;
                        while at < content.len() {
                            let read = file.read_at(at as u64, &mut content[at..]).unwrap();
                            assert_ne!(read, 0, "{path} ends at {at}");
                            at += read;
                        }
                        content
                    }
                    _ => Vec::new(),
                };
                if entry.is_directory() {
                    directories.push(path.clone());
                }
                listing.insert(path[top.len()..].to_owned(), (u32::from(entry.mode), content));
            }
        }
        listing
    }

    /// The same by the verifying reader, with the master key.
    async fn verified_listing(&self, top: &str) -> BTreeMap<String, (u32, Vec<u8>)> {
        let key = MasterKey::read(self.repository.public_key()).unwrap();
        let server = Server::new(&self.url(), None).unwrap();
        let mut repository = reader::Repository::open(server, &[key]).await.unwrap();
        let (mut listing, mut directories) = (BTreeMap::new(), vec![RootPath::new(top).unwrap()]);
        while let Some(directory) = directories.pop() {
            for entry in repository.list(&directory).await.unwrap() {
                let path = directory.join(&entry.name).unwrap();
                assert_eq!(repository.lookup(&path).await.unwrap().as_ref(), Some(&entry));
                let content = match &entry.kind {
                    EntryKind::Symlink(target) => target.clone(),
                    EntryKind::File(content) => self.content(content, entry.size),
                    EntryKind::Directory => {
                        directories.push(path.clone());
                        Vec::new()
                    }
                    EntryKind::Special => Vec::new(),
                };
                listing.insert(path.to_string()[top.len()..].to_owned(), (entry.mode, content));
            }
        }
        listing
    }

    fn content(&self, content: &reader::Content, size: u64) -> Vec<u8> {
        let read = |hash: &ContentHash, kind, size| {
            let stored = fs::read(self.repository.object_path(hash, kind)).unwrap();
            object::unpack(hash, &stored, size).unwrap()
        };
        match content {
            reader::Content::Whole { hash, compressed: true } => read(hash, ObjectKind::File, size),
            reader::Content::Chunks { chunks, compressed: true } => {
                chunks.iter().flat_map(|chunk| read(&chunk.hash, ObjectKind::Chunk, chunk.size)).collect()
            }
            other => panic!("{other:?} is not what is written here"),
        }
    }

    /// The content of all catalogs of all revisions.
    fn catalogs(&self) -> Vec<Vec<u8>> {
        self.objects_of_kind("C").into_iter().map(|stored| inflate(&stored)).collect()
    }

    fn objects_of_kind(&self, suffix: &str) -> Vec<Vec<u8>> {
        self.paths_of_kind(suffix).into_iter().map(|file| fs::read(file).unwrap()).collect()
    }

    fn paths_of_kind(&self, suffix: &str) -> Vec<PathBuf> {
        let directories = fs::read_dir(self.web_root().join("data")).unwrap().map(|entry| entry.unwrap().path());
        let files = directories.flat_map(|directory| fs::read_dir(directory).unwrap()).map(|file| file.unwrap().path());
        files.filter(|file| file.to_str().unwrap().ends_with(suffix)).collect()
    }

    fn web_root(&self) -> PathBuf {
        self.directory.path().join("web/cvmfs").join(FQRN)
    }
}

fn inflate(stored: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::ZlibDecoder::new(stored), &mut content).unwrap();
    content
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    StdRng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

#[test]
fn a_layer_is_read_back_as_ingest_leaves_it() {
    let mut site = Site::new();
    let large = noise(1, 3 << 20);
    let layer = site.layer(|tar| {
        tar.dir("etc", 0o755)?;
        tar.file("etc/passwd", 0o644, "root\n")?;
        tar.file("etc/shadow", 0o600, "secret\n")?;
        tar.file("etc/empty", 0o644, "")?;
        tar.file("bin/su", 0o4755, "#!/bin/sh\n")?;
        tar.hardlink("bin/login", "bin/su")?;
        tar.symlink("bin/sh", "/bin/su")?;
        tar.dir("tmp", 0o1777)?;
        tar.whiteout("etc/gone")?;
        tar.opaque("tmp")?;
        tar.character_device("dev/null", 0o666, 1, 3)?;
        tar.fifo("dev/pipe", 0o600)?;
        tar.file("usr/share/\u{fc}ber 'x'", 0o644, "name\n")?;
        tar.owner(Owner { uid: 1000, gid: 100 }).file("large", 0o640, &large)
    });
    let layerfs = site.repository.publish_layer(&layer).unwrap();
    let hex = layer.digest.hex();
    assert_eq!(layerfs.to_string(), format!("/.layers/{}/{hex}/layerfs", &hex[..2]));
    site.repository.commit().unwrap();

    let expected: [(&str, u32, &[u8]); 19] = [
        ("/.cvmfscatalog", 0o100_664, b""),
        ("/bin", 0o040_755, b""),
        ("/bin/login", 0o104_755, b"#!/bin/sh\n"),
        ("/bin/sh", 0o120_777, b"/bin/su"),
        ("/bin/su", 0o104_755, b"#!/bin/sh\n"),
        ("/dev", 0o040_755, b""),
        ("/dev/null", 0o020_666, b""),
        ("/dev/pipe", 0o010_600, b""),
        ("/etc", 0o040_755, b""),
        ("/etc/.wh.gone", 0o100_644, b""),
        ("/etc/empty", 0o100_644, b""),
        ("/etc/passwd", 0o100_644, b"root\n"),
        ("/etc/shadow", 0o100_600, b"secret\n"),
        ("/large", 0o100_640, &large),
        ("/tmp", 0o041_777, b""),
        ("/tmp/.wh..wh..opq", 0o100_644, b""),
        ("/usr", 0o040_755, b""),
        ("/usr/share", 0o040_755, b""),
        ("/usr/share/\u{fc}ber 'x'", 0o100_644, b"name\n"),
    ];
    let expected: BTreeMap<_, _> =
        expected.into_iter().map(|(path, mode, content)| (path.to_owned(), (mode, content.to_vec()))).collect();
    assert_eq!(site.listing(&layerfs.to_string()), expected);
    assert_eq!(block_on(site.verified_listing(&layerfs.to_string())), expected);

    let all = site.listing("");
    for marker in ["/.layers/.cvmfscatalog".to_owned(), format!("/.layers/{}/.cvmfscatalog", &hex[..2])] {
        assert!(all.contains_key(&marker), "{marker} is missing");
    }
    assert!(all.contains_key(&format!("/.layers/{}/{hex}/.metadata/layers.json", &hex[..2])));
    assert_eq!(all, block_on(site.verified_listing("/")).into_iter().map(|(p, e)| (format!("/{p}"), e)).collect());
}

#[test]
fn a_local_tree_is_chunked_where_asked() {
    let mut site = Site::new();
    let local = site.directory.path().join("flat");
    fs::create_dir_all(local.join("app/deep")).unwrap();
    let model = noise(2, 500_000);
    fs::write(local.join("app/model.bin"), &model).unwrap();
    fs::write(local.join("app/deep/small"), "small").unwrap();
    fs::write(local.join("app/empty"), "").unwrap();
    fs::set_permissions(local.join("app/deep/small"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("deep/small", local.join("app/link")).unwrap();
    fs::write(local.join(".cvmfscatalog"), "").unwrap();

    let chunking = Chunking::Sizes { min: 16 << 10, avg: 48 << 10, max: 96 << 10 };
    site.repository.put_tree("/.flat/ab/abcdef", &local, chunking).unwrap();
    site.repository.put_symlink("/registry.example/app:1", "../.flat/ab/abcdef").unwrap();
    site.repository.commit().unwrap();
    let listing = site.listing("/.flat/ab/abcdef");
    assert_eq!(listing["/app/model.bin"].1, model);
    assert_eq!(listing["/app/deep/small"], (0o100_755, b"small".to_vec()));
    assert_eq!(listing["/app/link"].1, b"deep/small");
    assert_eq!(listing.len(), 7);
    assert_eq!(block_on(site.verified_listing("/.flat/ab/abcdef")), listing);
    let chunks = site.objects_of_kind("P");
    assert!((6..=31).contains(&chunks.len()), "{} chunks of 16 to 96 KiB for 500 kB", chunks.len());

    site.repository.remove_tree("/.flat/ab").unwrap();
    site.repository.put_tree("/.bundles/x", &local.join("app/model.bin"), Chunking::None).unwrap();
    site.repository.commit().unwrap();
    assert_eq!(site.listing("/.bundles")["/x"].1, model);
    assert!(site.listing("/.flat").is_empty());
    assert!(site.repository.remove_tree("/.flat/ab").is_err());
    assert_eq!(site.repository.revision(), 3);
}

#[test]
fn counters_and_references_of_catalogs_are_right() {
    let mut site = Site::new();
    let layers = [1, 2].map(|n| site.layer(|tar| tar.file(format!("dir/file-{n}"), 0o644, format!("{n}"))));
    for layer in &layers {
        site.repository.publish_layer(layer).unwrap();
    }
    site.repository.commit().unwrap();
    // Two root catalogs: only the newer counts; it covers the rest.
    let (mut regular, mut top) = (0, None);
    for bytes in site.catalogs() {
        let mut database = Connection::open_in_memory().unwrap();
        database.deserialize_read_exact("main", bytes.as_slice(), bytes.len(), true).unwrap();
        let count = |sql: &str| database.query_row(sql, (), |row| row.get::<_, i64>(0)).unwrap();
        let check: String = database.query_row("PRAGMA integrity_check", (), |row| row.get(0)).unwrap();
        assert_eq!(check, "ok");
        for (counter, condition) in [("dir", "flags & 1"), ("regular", "flags & 28 = 4"), ("nested", "flags & 2")] {
            let counted = count(&format!("SELECT count(*) FROM catalog WHERE {condition}"));
            assert_eq!(count(&format!("SELECT value FROM statistics WHERE counter = 'self_{counter}'")), counted);
        }
        assert_eq!(count("SELECT count(*) FROM statistics"), 24);
        assert_eq!(
            count("SELECT count(*) FROM catalog WHERE flags & 2"),
            count("SELECT count(*) FROM nested_catalogs")
        );
        let is_root = count("SELECT count(*) FROM properties WHERE key = 'root_prefix'") == 0;
        if is_root && count("SELECT CAST(value AS INTEGER) FROM properties WHERE key = 'revision'") == 2 {
            let whole = "SELECT sum(value) FROM statistics WHERE counter IN ('self_regular', 'subtree_regular')";
            top = Some(count(whole));
        } else {
            regular += count("SELECT value FROM statistics WHERE counter = 'self_regular'");
        }
    }
    assert_eq!(top, Some(regular), "the root's counters cover all catalogs");
}

#[test]
fn a_revision_writes_only_the_catalogs_that_changed() {
    let mut site = Site::new();
    let layers = [1, 2].map(|n| site.layer(|tar| tar.file("file", 0o644, format!("{n}"))));
    let first = site.repository.publish_layer(&layers[0]).unwrap();
    site.repository.commit().unwrap();
    let before = site.catalogs().len();
    site.repository.put_file("/new", b"new").unwrap();
    site.repository.commit().unwrap();
    assert_eq!(site.catalogs().len(), before + 1, "only the root");
    site.repository.publish_layer(&layers[1]).unwrap();
    site.repository.commit().unwrap();
    assert_eq!(site.catalogs().len(), before + 5, "the root, .layers, .layers/<2>, layerfs");
    // The same layer again changes nothing.
    assert_eq!(site.repository.publish_layer(&layers[0]).unwrap(), first);
    site.repository.commit().unwrap();
    assert_eq!(site.catalogs().len(), before + 6, "only the root, whose revision is another");
    for top in [first.to_string(), "/.layers".into()] {
        assert_eq!(block_on(site.verified_listing(&top)), site.listing(&top));
    }
}

#[test]
fn a_corrupted_object_keeps_name_and_size_and_is_noticed() {
    let mut site = Site::new();
    site.repository.put_file("/file", b"content").unwrap();
    site.repository.commit().unwrap();
    let key = MasterKey::read(site.repository.public_key()).unwrap();
    let entry = block_on(async {
        let server = Server::new(&site.url(), None).unwrap();
        let mut repository = reader::Repository::open(server, &[key]).await.unwrap();
        repository.lookup(&RootPath::new("/file").unwrap()).await.unwrap().unwrap()
    });
    let EntryKind::File(reader::Content::Whole { hash, .. }) = entry.kind else { panic!("{entry:?}") };
    let path = site.repository.object_path(&hash, ObjectKind::File);
    let good = fs::read(&path).unwrap();
    object::verify(&hash, &good).unwrap();
    site.repository.corrupt_object(&hash, ObjectKind::File).unwrap();
    let bad = fs::read(&path).unwrap();
    assert_eq!(bad.len(), good.len());
    assert!(object::verify(&hash, &bad).is_err());
}

#[test]
fn a_foreign_master_key_is_refused() {
    let (site, other) = (Site::new(), Site::new());
    let key = MasterKey::read(other.repository.public_key()).unwrap();
    let server = Server::new(&site.url(), None).unwrap();
    assert!(block_on(reader::Repository::open(server, &[key])).is_err());
}
