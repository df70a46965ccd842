//! The repositories whose files containers used: the image's, and others that were mounted in them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::bundle::NeededCatalog;
use crate::cvmfs::{Content, CvmfsError, EntryKind, Mounted, Repository, Server};
use crate::path::RootPath;

/// Where the builder looks for files.
#[derive(Debug)]
pub struct Repositories {
    /// The one with the image's layers, by its catalogs: only they tell which layer shows a path.
    pub(super) image: Repository,
    /// The others, by name.
    others: BTreeMap<String, Other>,
}

/// How a repository that is not the image's is asked.
#[derive(Debug)]
enum Other {
    /// By its catalogs.
    Catalogs(Box<Repository>),
    /// By the attributes that a mounted client shows of each file.
    Mounted(Mounted),
}

impl Repositories {
    /// Only the image's.
    pub fn of(image: Repository) -> Self {
        Self { image, others: BTreeMap::new() }
    }

    /// Another one, to be asked by its catalogs.
    pub fn add(&mut self, repository: Repository) {
        let name = repository.manifest().repository.clone();
        self.others.insert(name, Other::Catalogs(Box::new(repository)));
    }

    /// Another one, to be asked through a client that is mounted at `path`, unless its catalogs are at hand. Tells its name.
    pub fn add_mounted(&mut self, path: &Path) -> Result<String, CvmfsError> {
        let mounted = Mounted::at(path)?;
        let name = mounted.name().to_owned();
        self.others.entry(name.clone()).or_insert(Other::Mounted(mounted));
        Ok(name)
    }

    /// The server of the image's repository.
    pub fn image_server(&self) -> &Server {
        self.image.server()
    }

    /// All names, the image's first.
    pub(super) fn names(&self) -> Vec<String> {
        let others = self.other_than_images().map(|(name, _)| name);
        std::iter::once(&self.image.manifest().repository).chain(others).cloned().collect()
    }

    fn place(&self, name: &str) -> Option<u16> {
        self.names().iter().position(|known| known == name)?.try_into().ok()
    }

    /// The regular file at `path` in repository `name`: the repository's place among the names, size and content.
    pub(super) async fn content(
        &mut self,
        name: &str,
        path: &RootPath,
    ) -> Result<Option<(u16, u64, Content)>, CvmfsError> {
        let Some(place) = self.place(name) else { return Ok(None) };
        let by_catalogs = match self.others.get_mut(name) {
            _ if place == 0 => &mut self.image,
            Some(Other::Catalogs(repository)) => repository,
            Some(Other::Mounted(mounted)) => {
                let found = mounted.content(path)?;
                return Ok(found.map(|(size, content)| (place, size, content)));
            }
            None => return Ok(None),
        };
        Ok(match by_catalogs.lookup(path).await? {
            Some(entry) => match entry.kind {
                EntryKind::File(content) => Some((place, entry.size, content)),
                _ => None,
            },
            None => None,
        })
    }

    /// The servers of all of them, in the order of the names.
    pub(super) fn servers(&self) -> impl Iterator<Item = &Server> {
        let others = self.other_than_images().map(|(_, other)| match other {
            Other::Catalogs(repository) => repository.server(),
            Other::Mounted(mounted) => mounted.server(),
        });
        std::iter::once(self.image_server()).chain(others)
    }

    fn other_than_images(&self) -> impl Iterator<Item = (&String, &Other)> {
        self.others.iter().filter(|(name, _)| **name != self.image.manifest().repository)
    }

    /// The nested catalogs on the way to these files, outer ones before inner ones. Which those are a mounted client does
    /// not tell.
    pub(super) async fn catalogs(
        &mut self,
        files: impl Iterator<Item = (u16, RootPath)>,
    ) -> Result<Vec<NeededCatalog>, CvmfsError> {
        let names = self.names();
        let directories: BTreeSet<_> = files.filter_map(|(place, path)| Some((place, path.parent()?))).collect();
        let mut catalogs = BTreeSet::new();
        for (repository, directory) in directories {
            let other = names.get(usize::from(repository)).and_then(|name| self.others.get_mut(name));
            let asked = match other {
                _ if repository == 0 => &mut self.image,
                Some(Other::Catalogs(repository)) => repository,
                _ => continue,
            };
            for catalog in asked.catalogs_on_the_way(&directory).await? {
                catalogs.insert(NeededCatalog { repository, mountpoint: catalog.mountpoint });
            }
        }
        Ok(catalogs.into_iter().collect())
    }
}
