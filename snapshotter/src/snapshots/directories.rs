//! The directories below the root, besides the database.
//!
//! ```text
//! <root>/
//!   metadata/             RocksDB, see `store`
//!   snapshots/<id>/
//!     fs/                 files of a local snapshot: upper directory while active, a layer once committed
//!     work/               overlayfs's work directory, while active
//!     above/, below/      companions of a published layer, see `whiteouts`
//!   l/<id>, l/<id>a, l/<id>b
//!                         symbolic links to a snapshot's lower directory and its companions
//! ```
//!
//! The links keep mount options short: all lower directories of a mount are entries of one directory. When options come
//! near the kernel's limit of one page, containerd changes into the longest common directory and names the lower
//! directories relative to it, so even the largest images stay far below the limit.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use super::remove::remove;
use super::{Content, Kind, Snapshot};

/// A file operation below the root that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path}: {source}")]
pub struct DiskError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl DiskError {
    /// For `map_err` on file operations. `action` is the verb of the error message: "cannot `action` `path`".
    pub fn new(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self { action, path, source }
    }
}

/// The root directory.
#[derive(Debug, Clone)]
pub struct Directories {
    root: PathBuf,
}

/// One of the directories that a snapshot adds to the lower directories of a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The layer itself.
    Layer,
    /// The companion above the layer.
    Above,
    /// The companion below the layer.
    Below,
}

impl Directories {
    /// Creates the directories of the layout that do not exist yet.
    pub fn open(root: &Path) -> Result<Self, DiskError> {
        for path in [root, &root.join("snapshots"), &root.join("l")] {
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
            made.map_err(DiskError::new("create the directory", path))?;
        }
        Ok(Self { root: root.to_owned() })
    }

    /// The directory of the database.
    pub fn metadata(&self) -> PathBuf {
        self.root.join("metadata")
    }

    fn snapshot(&self, id: u64) -> PathBuf {
        self.root.join("snapshots").join(id.to_string())
    }

    /// The files of a local snapshot.
    pub fn files(&self, id: u64) -> PathBuf {
        self.snapshot(id).join("fs")
    }

    /// The work directory of an active snapshot.
    pub fn work(&self, id: u64) -> PathBuf {
        self.snapshot(id).join("work")
    }

    /// The companion above a published layer.
    pub fn above(&self, id: u64) -> PathBuf {
        self.snapshot(id).join("above")
    }

    /// The companion below a published layer.
    pub fn below(&self, id: u64) -> PathBuf {
        self.snapshot(id).join("below")
    }

    /// The short name of a lower directory, for mount options.
    pub fn link(&self, id: u64, part: Part) -> PathBuf {
        let suffix = match part {
            Part::Layer => "",
            Part::Above => "a",
            Part::Below => "b",
        };
        self.root.join("l").join(format!("{id}{suffix}"))
    }

    /// Creates the directory of a local snapshot. Its root gets the owner of the parent's root, as in containerd.
    pub fn make_local(&self, id: u64, kind: Kind, owner: Option<(u32, u32)>) -> Result<(), DiskError> {
        make(&self.snapshot(id), 0o700)?;
        let files = self.files(id);
        make(&files, 0o755)?;
        if let Some((uid, gid)) = owner {
            chown(&files, Some(uid), Some(gid)).map_err(DiskError::new("change the owner of", &files))?;
        }
        if kind == Kind::Active {
            make(&self.work(id), 0o711)?;
        }
        self.make_link(id, Part::Layer, Path::new(&format!("../snapshots/{id}/fs")))
    }

    /// Creates the directory and the links of a published layer. The companions are empty; the caller fills them.
    pub fn make_published(&self, id: u64, layerfs: &Path, below: bool) -> Result<(), DiskError> {
        make(&self.snapshot(id), 0o700)?;
        self.make_link(id, Part::Layer, layerfs)?;
        make(&self.above(id), 0o755)?;
        self.make_link(id, Part::Above, Path::new(&format!("../snapshots/{id}/above")))?;
        if below {
            make(&self.below(id), 0o755)?;
            self.make_link(id, Part::Below, Path::new(&format!("../snapshots/{id}/below")))?;
        }
        Ok(())
    }

    fn make_link(&self, id: u64, part: Part, target: &Path) -> Result<(), DiskError> {
        let link = self.link(id, part);
        symlink(target, &link).map_err(DiskError::new("create the link", link))
    }

    /// User and group of the root directory of a snapshot.
    pub fn owner(&self, snapshot: &Snapshot) -> Result<(u32, u32), DiskError> {
        match &snapshot.content {
            Content::Cvmfs(layer) => Ok(layer.owner),
            Content::Local => {
                let files = self.files(snapshot.id);
                let metadata = fs::metadata(&files).map_err(DiskError::new("read the owner of", &files))?;
                Ok((metadata.uid(), metadata.gid()))
            }
        }
    }

    /// Deletes everything that a snapshot with this id has on disk. Missing files are no error.
    pub fn remove(&self, id: u64) -> Result<(), DiskError> {
        for part in [Part::Layer, Part::Above, Part::Below] {
            let link = self.link(id, part);
            ignore_missing(fs::remove_file(&link)).map_err(DiskError::new("delete", link))?;
        }
        let directory = self.snapshot(id);
        remove(&directory).map_err(DiskError::new("delete", directory))
    }

    /// The ids that have a directory or a link, sorted.
    pub fn ids(&self) -> Result<Vec<u64>, DiskError> {
        let mut ids = Vec::new();
        for folder in ["snapshots", "l"] {
            let path = self.root.join(folder);
            for entry in fs::read_dir(&path).map_err(DiskError::new("list", &path))? {
                let name = entry.map_err(DiskError::new("list", &path))?.file_name();
                let name = name.to_string_lossy();
                ids.extend(name.trim_end_matches(['a', 'b']).parse::<u64>().ok());
            }
        }
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }
}

fn make(path: &Path, mode: u32) -> Result<(), DiskError> {
    // The mode is set a second time because the process may have a umask.
    let made = fs::DirBuilder::new().mode(mode).create(path);
    made.and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
        .map_err(DiskError::new("create the directory", path))
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
