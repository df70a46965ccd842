//! The repositories whose files containers used: the image's, and others mounted in the containers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::bundle::NeededCatalog;
use crate::cvmfs::{Content, CvmfsError, EntryKind, MountedClient, Repository, Server};
use crate::path::RootPath;

/// Where the builder looks up files.
#[derive(Debug)]
pub struct Repositories {
    /// The image's repository, by its catalogs: only they show which layer has a path.
    pub(super) image: Repository,
    /// The other repositories, by name.
    others: BTreeMap<String, Other>,
}

/// How another repository is read.
#[derive(Debug)]
enum Other {
    /// By its signed catalogs.
    Catalogs(Box<Repository>),
    /// By the extended attributes of a mounted client.
    Mounted(MountedClient),
}

impl Repositories {
    /// Only the image's repository.
    pub fn new(image: Repository) -> Self {
        Self { image, others: BTreeMap::new() }
    }

    /// Adds another repository, read by its catalogs.
    pub fn add(&mut self, repository: Repository) {
        let name = repository.manifest().repository.clone();
        self.others.insert(name, Other::Catalogs(Box::new(repository)));
    }

    /// Adds another repository, read through the client mounted at `path`, unless its catalogs were added.
    /// Returns its name.
    pub fn add_mounted(&mut self, path: &Path) -> Result<String, CvmfsError> {
        let mounted = MountedClient::at(path)?;
        let name = mounted.name().to_owned();
        self.others.entry(name.clone()).or_insert(Other::Mounted(mounted));
        Ok(name)
    }

    /// Server of the image's repository.
    pub fn image_server(&self) -> &Server {
        self.image.server()
    }

    /// All names, the image's first.
    pub(super) fn names(&self) -> Vec<String> {
        let others = self.others_by_name().map(|(name, _)| name);
        std::iter::once(&self.image.manifest().repository).chain(others).cloned().collect()
    }

    fn index(&self, name: &str) -> Option<u16> {
        self.names().iter().position(|known| known == name)?.try_into().ok()
    }

    /// The regular file at `path` in the repository `name`: index of the repository, size and content.
    pub(super) async fn content(
        &mut self,
        name: &str,
        path: &RootPath,
    ) -> Result<Option<(u16, u64, Content)>, CvmfsError> {
        let Some(index) = self.index(name) else { return Ok(None) };
        let by_catalogs = match self.others.get_mut(name) {
            _ if index == 0 => &mut self.image,
            Some(Other::Catalogs(repository)) => repository,
            Some(Other::Mounted(mounted)) => {
                let found = mounted.content(path)?;
                return Ok(found.map(|(size, content)| (index, size, content)));
            }
            None => return Ok(None),
        };
        Ok(match by_catalogs.lookup(path).await? {
            Some(entry) => match entry.kind {
                EntryKind::File(content) => Some((index, entry.size, content)),
                _ => None,
            },
            None => None,
        })
    }

    /// The servers of all repositories, in the order of the names.
    pub(super) fn servers(&self) -> impl Iterator<Item = &Server> {
        let others = self.others_by_name().map(|(_, other)| match other {
            Other::Catalogs(repository) => repository.server(),
            Other::Mounted(mounted) => mounted.server(),
        });
        std::iter::once(self.image_server()).chain(others)
    }

    fn others_by_name(&self) -> impl Iterator<Item = (&String, &Other)> {
        self.others.iter().filter(|(name, _)| **name != self.image.manifest().repository)
    }

    /// The nested catalogs on the way to these files, outer ones before inner ones. Mounted clients do not
    /// report theirs.
    pub(super) async fn catalogs(
        &mut self,
        files: impl Iterator<Item = (u16, RootPath)>,
    ) -> Result<Vec<NeededCatalog>, CvmfsError> {
        let names = self.names();
        let directories: BTreeSet<_> = files.filter_map(|(index, path)| Some((index, path.parent()?))).collect();
        let mut catalogs = BTreeSet::new();
        for (repository, directory) in directories {
            let other = names.get(usize::from(repository)).and_then(|name| self.others.get_mut(name));
            let repository_with_catalogs = match other {
                _ if repository == 0 => &mut self.image,
                Some(Other::Catalogs(repository)) => repository,
                _ => continue,
            };
            for catalog in repository_with_catalogs.nested_catalogs_for(&directory).await? {
                catalogs.insert(NeededCatalog { repository, mountpoint: catalog.mountpoint });
            }
        }
        Ok(catalogs.into_iter().collect())
    }
}
