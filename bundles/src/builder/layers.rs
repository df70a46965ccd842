//! Which layer of an image a path comes from.
//!
//! The rules are those of a stack of OCI layers: the topmost layer that has the path wins, unless a layer above deletes it: with a whiteout
//! `.wh.<name>` for the path or a directory above it, with an opaque marker `.wh..wh..opq` in a directory above it, or by having
//! something other than a directory where the path needs one. Source: OCI image specification, `layer.md`.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use crate::bundle::{OPAQUE, WHITEOUT};
use crate::cvmfs::{CatalogRef, Content, CvmfsError, Entry, EntryKind, Repository};
use crate::image::Digest;
use crate::path::RootPath;

/// The layers of one image, topmost first. `None` for layers that the repository does not have.
pub(super) struct Layers {
    layers: Vec<Option<Layer>>,
}

struct Layer {
    root: RootPath,
    catalog: CatalogRef,
    directories: HashMap<RootPath, Rc<Directory>>,
}

/// What a layer has at the path of a directory.
enum Directory {
    /// Nothing.
    Absent,
    /// Something other than a directory.
    Other,
    Present {
        entries: HashMap<Vec<u8>, Entry>,
        whiteouts: HashSet<Vec<u8>>,
        opaque: bool,
    },
}

/// Where a path of the container comes from.
pub(super) enum Found {
    /// A regular file of a published layer, at `path` in the repository.
    File { path: RootPath, size: u64, content: Content },
    /// No layer has a regular file there.
    NotInImage,
    /// It may be in a layer that the repository does not have.
    LayerNotInRepository,
}

/// What one layer says about a path.
enum Verdict {
    Has(Entry),
    /// The path does not exist: this layer hides it in all layers below.
    Hidden,
    /// The layer below decides.
    Below,
}

impl Layers {
    /// Finds the layers (digests from the lowest to the topmost) in the repository.
    pub(super) async fn find(repository: &mut Repository, digests: &[Digest]) -> Result<Self, CvmfsError> {
        let mut layers = Vec::new();
        for digest in digests.iter().rev() {
            let hex = digest.hex();
            let root = RootPath::new(format!("/.layers/{}/{hex}/layerfs", &hex[..2]))?;
            let present = repository.lookup(&root).await?.is_some();
            let catalog = if present { repository.nested_catalogs_for(&root).await?.pop() } else { None };
            layers.push(catalog.map(|catalog| Layer { root, catalog, directories: HashMap::new() }));
        }
        Ok(Self { layers })
    }

    /// Number of layers that the repository has.
    pub(super) fn published(&self) -> usize {
        self.layers.iter().flatten().count()
    }

    /// The layers' own catalogs, topmost first. Layers never change, so neither do these; the catalogs above
    /// them change with every publication and are not worth listing.
    pub(super) fn catalogs(&self) -> impl Iterator<Item = &CatalogRef> {
        self.layers.iter().flatten().map(|l| &l.catalog).filter(|c| c.mountpoint.name() == b"layerfs")
    }

    /// Finds the file that a container sees at `path`.
    pub(super) async fn resolve(&mut self, repository: &mut Repository, path: &RootPath) -> Result<Found, CvmfsError> {
        for layer in &mut self.layers {
            let Some(layer) = layer else { return Ok(Found::LayerNotInRepository) };
            match layer.verdict(repository, path).await? {
                Verdict::Below => {}
                Verdict::Hidden => return Ok(Found::NotInImage),
                Verdict::Has(entry) => {
                    return Ok(match entry.kind {
                        EntryKind::File(content) => {
                            Found::File { path: layer.root.append(path)?, size: entry.size, content }
                        }
                        _ => Found::NotInImage,
                    });
                }
            }
        }
        Ok(Found::NotInImage)
    }
}

impl Layer {
    async fn verdict(&mut self, repository: &mut Repository, path: &RootPath) -> Result<Verdict, CvmfsError> {
        let mut directory = self.root.clone();
        let mut opaque_above = false;
        let mut components = path.components().peekable();
        while let Some(name) = components.next() {
            let here = self.directory(repository, &directory).await?;
            let Directory::Present { entries, whiteouts, opaque } = &*here else {
                return Ok(if matches!(*here, Directory::Other) || opaque_above {
                    Verdict::Hidden
                } else {
                    Verdict::Below
                });
            };
            opaque_above |= opaque;
            if let (None, Some(entry)) = (components.peek(), entries.get(name)) {
                return Ok(Verdict::Has(entry.clone()));
            }
            if !entries.contains_key(name) {
                let hidden = opaque_above || whiteouts.contains(name);
                return Ok(if hidden { Verdict::Hidden } else { Verdict::Below });
            }
            // The layer has the directory itself; a whiteout of the same name still hides the layers below.
            opaque_above |= whiteouts.contains(name);
            directory = directory.join(name)?;
        }
        Ok(Verdict::Hidden)
    }

    async fn directory(&mut self, repository: &mut Repository, path: &RootPath) -> Result<Rc<Directory>, CvmfsError> {
        if let Some(known) = self.directories.get(path) {
            return Ok(known.clone());
        }
        let read = Rc::new(read_directory(repository, path).await?);
        self.directories.insert(path.clone(), read.clone());
        Ok(read)
    }
}

async fn read_directory(repository: &mut Repository, path: &RootPath) -> Result<Directory, CvmfsError> {
    match repository.lookup(path).await? {
        None => return Ok(Directory::Absent),
        Some(entry) if entry.kind != EntryKind::Directory => return Ok(Directory::Other),
        Some(_) => {}
    }
    let (mut entries, mut whiteouts, mut opaque) = (HashMap::new(), HashSet::new(), false);
    for entry in repository.list(path).await? {
        if entry.name == OPAQUE {
            opaque = true;
        } else if let Some(hidden) = entry.name.strip_prefix(WHITEOUT) {
            whiteouts.insert(hidden.to_vec());
        } else {
            entries.insert(entry.name.clone(), entry);
        }
    }
    Ok(Directory::Present { entries, whiteouts, opaque })
}
