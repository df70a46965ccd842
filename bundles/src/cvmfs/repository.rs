//! A repository at one revision, verified from the master key down.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use super::CvmfsError;
use super::catalog::{Catalog, Entry, MAX_SIZE};
use super::key::{Certificate, MasterKey};
use super::manifest::Manifest;
use super::server::Server;
use super::signed::{self, SignedText};
use super::whitelist::Whitelist;
use crate::object::{ContentHash, ObjectKind};
use crate::path::RootPath;

const CERTIFICATE_LIMIT: usize = 64 << 10;

/// A repository's tree, as its signed catalogs describe it. Catalogs are fetched on first use and kept.
#[derive(Debug)]
pub struct Repository {
    server: Server,
    manifest: Manifest,
    catalogs: BTreeMap<RootPath, Catalog>,
}

/// A reference to a catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogRef {
    /// Directory at which the catalog begins.
    pub mountpoint: RootPath,
    /// Hash of the catalog object.
    pub hash: ContentHash,
    /// Size in bytes, decompressed.
    pub raw_size: u64,
}

impl Repository {
    /// Fetches whitelist, manifest and certificate, checks that one of `keys` has signed them, and loads the
    /// root catalog.
    pub async fn open(server: Server, keys: &[MasterKey]) -> Result<Self, CvmfsError> {
        let whitelist = server.file(".cvmfswhitelist", signed::MAX_LEN).await?;
        let published = server.file(".cvmfspublished", signed::MAX_LEN).await?;
        let published = SignedText::parse(".cvmfspublished", &published)?;
        let manifest = Manifest::parse(&published)?;
        let pem = server.small_object(&manifest.certificate, ObjectKind::Certificate, CERTIFICATE_LIMIT).await?;
        let certificate = Certificate::from_pem(&pem)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        trust(&whitelist, keys, &certificate, &published, &manifest.repository, now)?;
        let root = CatalogRef {
            mountpoint: RootPath::new("/")?,
            hash: manifest.root_catalog,
            raw_size: manifest.root_catalog_size,
        };
        let mut repository = Self { server, manifest, catalogs: BTreeMap::new() };
        repository.load(&root).await?;
        Ok(repository)
    }

    /// The verified manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The server that the repository is read from.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// The entry of `path`; `None` if it does not exist.
    pub async fn lookup(&mut self, path: &RootPath) -> Result<Option<Entry>, CvmfsError> {
        self.catalog_for(path).await?.lookup(path)
    }

    /// The entries of the directory `path`, sorted by name.
    pub async fn list(&mut self, path: &RootPath) -> Result<Vec<Entry>, CvmfsError> {
        self.catalog_for(path).await?.list(path)
    }

    /// The nested catalogs on the way to `path`, outermost first, without the root catalog.
    pub async fn nested_catalogs_for(&mut self, path: &RootPath) -> Result<Vec<CatalogRef>, CvmfsError> {
        let mut at = RootPath::new("/")?;
        let mut catalogs = Vec::new();
        while let Some(next) = self.nested(&at, path)? {
            self.load(&next).await?;
            at = next.mountpoint.clone();
            catalogs.push(next);
        }
        Ok(catalogs)
    }

    /// The paths of all whiteouts in the catalog mounted at `mountpoint` and in those nested in it, sorted.
    pub async fn whiteouts(&mut self, mountpoint: &RootPath) -> Result<Vec<RootPath>, CvmfsError> {
        let mut found = Vec::new();
        let mut pending = self.nested_catalogs_for(mountpoint).await?;
        pending.retain(|catalog| catalog.mountpoint == *mountpoint);
        while let Some(catalog) = pending.pop() {
            self.load(&catalog).await?;
            let loaded = self.loaded(&catalog.mountpoint)?;
            found.extend(loaded.whiteouts()?);
            let below = |(mountpoint, hash, raw_size): (&RootPath, _, _)| CatalogRef {
                mountpoint: mountpoint.clone(),
                hash,
                raw_size,
            };
            pending.extend(loaded.nested().map(below));
        }
        found.sort_unstable();
        Ok(found)
    }

    async fn catalog_for(&mut self, path: &RootPath) -> Result<&Catalog, CvmfsError> {
        let catalogs = self.nested_catalogs_for(path).await?;
        let mountpoint = catalogs.last().map_or(RootPath::new("/")?, |last| last.mountpoint.clone());
        self.loaded(&mountpoint)
    }

    fn nested(&self, at: &RootPath, path: &RootPath) -> Result<Option<CatalogRef>, CvmfsError> {
        let nested = self.loaded(at)?.nested_for(path);
        Ok(nested.map(|(mountpoint, hash, raw_size)| CatalogRef { mountpoint: mountpoint.clone(), hash, raw_size }))
    }

    fn loaded(&self, mountpoint: &RootPath) -> Result<&Catalog, CvmfsError> {
        self.catalogs.get(mountpoint).ok_or_else(|| CvmfsError::Catalog {
            mountpoint: mountpoint.to_string(),
            reason: "it is not loaded".to_owned(),
        })
    }

    async fn load(&mut self, catalog: &CatalogRef) -> Result<(), CvmfsError> {
        if self.catalogs.contains_key(&catalog.mountpoint) {
            return Ok(());
        }
        if catalog.raw_size > MAX_SIZE {
            let reason = format!("it has {} bytes, at most {MAX_SIZE} are read", catalog.raw_size);
            return Err(CvmfsError::Catalog { mountpoint: catalog.mountpoint.to_string(), reason });
        }
        let content = self.server.object(&catalog.hash, ObjectKind::Catalog, catalog.raw_size).await?;
        let opened = Catalog::open(catalog.mountpoint.clone(), &content)?;
        self.catalogs.insert(catalog.mountpoint.clone(), opened);
        Ok(())
    }
}

/// Checks the chain of trust from the master key to the manifest. Manifest and whitelist must name the same
/// repository.
fn trust(
    whitelist: &[u8],
    keys: &[MasterKey],
    certificate: &Certificate,
    published: &SignedText<'_>,
    repository: &str,
    now: u64,
) -> Result<(), CvmfsError> {
    let untrusted = |file, reason: String| Err(CvmfsError::Untrusted { file, reason });
    let signed = SignedText::parse(".cvmfswhitelist", whitelist)?;
    if !keys.iter().any(|key| key.verify(&signed)) {
        return untrusted(
            ".cvmfswhitelist",
            format!("it is not signed by any of the {} given master keys", keys.len()),
        );
    }
    let list = Whitelist::parse(&signed)?;
    if list.repository != repository {
        return untrusted(".cvmfswhitelist", format!("it is for {}, the manifest for {repository}", list.repository));
    }
    if !list.is_valid_at(now) {
        return untrusted(
            ".cvmfswhitelist",
            format!("it expired at {} UTC; its publisher must renew it", list.expires),
        );
    }
    if !list.fingerprints.contains(&certificate.fingerprint) {
        return untrusted(".cvmfspublished", format!("its certificate {} is not whitelisted", certificate.fingerprint));
    }
    if !certificate.verify(published) {
        return untrusted(".cvmfspublished", "its signature does not match its certificate".to_owned());
    }
    Ok(())
}
