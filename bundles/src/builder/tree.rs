//! Where the files of an image are in its repository.

use super::BuildError;
use super::layers::{Found, Layers};
use crate::cvmfs::{CatalogRef, CvmfsError, EntryKind, Repository};
use crate::path::RootPath;
use crate::registry::Image;

/// The tree of the repository in which containers see an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Tree {
    /// Its layers, which a snapshotter mounts as a stack.
    #[default]
    Layers,
    /// The merged tree in this directory, which Apptainer runs: `/.flat/<2>/<hex>`, or a link to it such as
    /// `/registry.example.org/physics/root:6.32`.
    Flat(RootPath),
}

/// A tree, found in the repository.
pub(super) enum Root {
    Layers(Layers),
    Flat(RootPath),
}

impl Root {
    pub(super) async fn find(tree: &Tree, image: &Image, repository: &mut Repository) -> Result<Self, BuildError> {
        let found = match tree {
            Tree::Layers => {
                let layers = Layers::find(repository, &image.layers).await?;
                (layers.published() > 0).then_some(Self::Layers(layers))
            }
            Tree::Flat(path) => directory(path, repository).await?.map(Self::Flat),
        };
        found.ok_or_else(|| BuildError::NotInRepository {
            repository: repository.manifest().repository.clone(),
            what: match tree {
                Tree::Layers => format!("layer of {}", image.id.reference),
                Tree::Flat(path) => format!("directory {path}"),
            },
        })
    }

    /// The catalogs of the tree that never change.
    pub(super) fn catalogs(&self) -> Vec<CatalogRef> {
        match self {
            Self::Layers(layers) => layers.catalogs().cloned().collect(),
            Self::Flat(_) => Vec::new(),
        }
    }

    /// Finds the file that a container sees at `path`.
    pub(super) async fn resolve(&mut self, repository: &mut Repository, path: &RootPath) -> Result<Found, CvmfsError> {
        let root = match self {
            Self::Layers(layers) => return layers.resolve(repository, path).await,
            Self::Flat(root) => root,
        };
        let path = root.append(path)?;
        Ok(match repository.lookup(&path).await? {
            Some(entry) => match entry.kind {
                EntryKind::File(content) => Found::File { path, size: entry.size, content },
                _ => Found::NotInImage,
            },
            None => Found::NotInImage,
        })
    }
}

/// The directory at `path`, or the one to which a link there leads.
async fn directory(path: &RootPath, repository: &mut Repository) -> Result<Option<RootPath>, CvmfsError> {
    let target = match repository.lookup(path).await?.map(|entry| entry.kind) {
        Some(EntryKind::Symlink(target)) => {
            let parent = path.parent().unwrap_or_else(|| path.clone());
            RootPath::normalize(parent.as_bytes(), &target)
        }
        _ => Some(path.clone()),
    };
    let Some(target) = target else { return Ok(None) };
    let kind = repository.lookup(&target).await?.map(|entry| entry.kind);
    Ok((kind == Some(EntryKind::Directory)).then_some(target))
}
