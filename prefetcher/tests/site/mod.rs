//! What the daemon meets on a node, small but real: an HTTP server, a repository's tree, a cache directory, and the
//! daemon's own binary over its socket. Everything lives in a temporary directory and ends with the test.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(unreachable_pub, missing_docs, reason = "a module of tests, not a library")]

mod cache_manager;
mod daemon;
mod lease;
mod origin;
mod registry;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use api::proto::{Image, RequestStatus, Tally};
use bundles::bundle::{Bundle, BundleObject};
use bundles::image::{ChainId, Digest, ImageId};
use bundles::object::{ContentHash, ObjectKind};
use bundles::path::RootPath;

#[allow(unused_imports, reason = "not every test has a cache manager")]
pub use cache_manager::{Registered, TestManager, make_fifo, open_reader};
pub use daemon::Daemon;
#[allow(unused_imports, reason = "not every test has a hung mount")]
pub use lease::Lease;
#[allow(unused_imports, reason = "not every test has a server that misbehaves")]
pub use origin::Behaviour;
pub use origin::Origin;
#[allow(unused_imports, reason = "not every test has a registry")]
pub use registry::Registry;

/// The repository of all tests.
pub const REPOSITORY: &str = "unpacked.test.example";
/// Far longer than anything here takes; ends a test that hangs.
pub const LONG: Duration = Duration::from_secs(60);

/// An object as the server has it, and its content.
#[derive(Clone)]
pub struct Object {
    pub entry: BundleObject,
    pub raw: Vec<u8>,
    pub stored: Vec<u8>,
}

impl Object {
    /// `raw`, compressed as the server does.
    pub fn new(raw: &[u8]) -> Self {
        Self::compressed(raw, flate2::Compression::default(), ObjectKind::File)
    }

    pub fn compressed(raw: &[u8], level: flate2::Compression, kind: ObjectKind) -> Self {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), level);
        encoder.write_all(raw).unwrap();
        let stored = encoder.finish().unwrap();
        let (hash, path) = (ContentHash::sha1_of(&stored), RootPath::new("/some/file").unwrap());
        let stored_size = stored.len() as u64;
        let entry = BundleObject { kind, stored_size, ..BundleObject::file(hash, raw.len() as u64, path) };
        Self { entry, raw: raw.to_vec(), stored }
    }

    /// Below the repository's URL.
    pub fn url_path(&self) -> String {
        self.entry.hash.url_path(self.entry.kind)
    }
}

/// `count` different objects of some KiB.
pub fn objects(seed: u32, count: u32) -> Vec<Object> {
    (0..count)
        .map(|i| Object::new(format!("object {i} of {seed}\n").repeat(100 + 37 * i as usize).as_bytes()))
        .collect()
}

/// Bytes that do not compress.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// A bundle of `objects` for the image called `name`.
pub fn bundle<'a>(name: &str, objects: impl IntoIterator<Item = &'a Object>) -> Bundle {
    let image = ImageId {
        chain_id: ChainId(Digest::sha256(format!("chain {name}").as_bytes())),
        manifest: Some(Digest::sha256(format!("manifest {name}").as_bytes())),
        reference: name.into(),
    };
    let objects = objects.into_iter().map(|o| o.entry.clone()).collect();
    Bundle { objects, ..Bundle::new(image, REPOSITORY) }
}

/// How a snapshotter asks for the image of `bundle`.
pub fn by_chain(bundle: &Bundle) -> Image {
    Image { chain_id: bundle.image.chain_id.to_string(), ..Image::default() }
}

/// How somebody asks who knows only the manifest.
pub fn by_manifest(bundle: &Bundle) -> Image {
    Image { manifest_digest: bundle.image.manifest.unwrap().to_string(), ..Image::default() }
}

/// The tally of a request that has ended, which must add up.
pub fn tally(status: &RequestStatus) -> Tally {
    let a = status.tally.unwrap();
    let told = a.cached_objects + a.fetched_objects + a.joined_objects + a.failed_objects + a.skipped_objects;
    assert_eq!(a.total_objects, told, "{status:?}");
    assert!(a.skipped_cache_full_objects <= a.skipped_objects, "{status:?}");
    let causes = a.failed_transfer
        + a.failed_verification
        + a.failed_write
        + a.failed_shutdown
        + a.failed_cancelled
        + a.failed_abandoned;
    assert_eq!(a.failed_objects, causes, "{status:?}");
    a
}

/// A node's directories.
pub struct Site {
    dir: tempfile::TempDir,
    /// Goes into the repository's configuration.
    pub proxy: Option<String>,
    /// More lines for it.
    pub repository: String,
}

impl Site {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["mount", "cache"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        Self { dir, proxy: None, repository: String::new() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn mount(&self) -> PathBuf {
        self.path("mount")
    }

    /// Where the CVMFS client is configured, if a test does that.
    pub fn client_config(&self) -> PathBuf {
        self.path("client")
    }

    /// Where clients find `object`.
    pub fn cached(&self, object: &Object) -> PathBuf {
        self.path("cache").join(object.entry.hash.cache_path())
    }

    pub fn publish(&self, bundle: &Bundle) -> PathBuf {
        bundles::publish::publish(bundle, &self.mount(), &[]).unwrap();
        self.mount().join(bundles::layout::bundle_path(&bundle.image.chain_id))
    }

    /// The object is in the cache with its right content, and nothing but right objects is.
    pub fn assert_cached<'a>(&self, objects: impl IntoIterator<Item = &'a Object>) {
        for object in objects {
            let found = fs::read(self.cached(object)).unwrap_or_else(|e| panic!("{:?}: {e}", object.entry.hash));
            assert!(found == object.raw, "{:?} has wrong content", object.entry.hash);
        }
    }

    /// All that is in the cache apart from folders, FIFOs and the record of objects that are not registered.
    pub fn cache_files(&self) -> Vec<PathBuf> {
        let all = files_below(&self.path("cache")).into_iter();
        all.filter(|path| path.is_file() && *path != self.unregistered()).collect()
    }

    /// The record of objects that are not registered with the cache manager.
    pub fn unregistered(&self) -> PathBuf {
        self.path("cache/cvmfs-prefetch.unregistered")
    }

    pub fn temporary_files(&self) -> Vec<PathBuf> {
        match self.path("cache/txn").exists() {
            true => files_below(&self.path("cache/txn")),
            false => Vec::new(),
        }
    }

    /// A configuration for the servers of `origins`, with `more` top-level lines. Unless these say otherwise, absence
    /// is not remembered.
    pub fn configure(&self, origins: &[&Origin], more: &str) -> PathBuf {
        let servers: Vec<String> = origins.iter().map(|o| format!("{:?}", o.server())).collect();
        // The machine of a test may have a full disk.
        let reserve = if more.contains("disk_reserve") { "" } else { "disk_reserve = 0.0" };
        let remember = if more.contains("absent_ttl") { "" } else { "absent_ttl = \"0s\"" };
        let proxy = self.proxy.as_ref().map_or(String::new(), |p| format!("proxy = {p:?}"));
        let text = format!(
            "socket = {:?}\nstore = {:?}\nclient_config = {:?}\nretries = 1\n{remember}\n{reserve}\n{more}\n\
             [[repositories]]\nname = {REPOSITORY:?}\nmount = {:?}\nservers = [{}]\ncache = {:?}\n{proxy}\n{}\n",
            self.path("prefetchd.sock"),
            self.path("store"),
            self.client_config(),
            self.mount(),
            servers.join(", "),
            self.path("cache"),
            self.repository,
        );
        let path = self.path("prefetchd.toml");
        fs::write(&path, text).unwrap();
        path
    }
}

/// A cache on a small file system of its own; only root can make one.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    pub fn at(path: PathBuf, options: &str) -> Self {
        let flags = nix::mount::MsFlags::empty();
        nix::mount::mount(Some("none"), &path, Some("tmpfs"), flags, Some(options)).unwrap();
        Self(path)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
    }
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(files_below(&path)),
            false => files.push(path),
        }
    }
    files
}

/// Polls until `condition` holds.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = std::time::Instant::now();
    while !condition() {
        assert!(started.elapsed() < LONG, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
