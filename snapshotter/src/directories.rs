//! What lies below the root, besides the metadata.
//!
//! ```text
//! <root>/
//!   metadata/             RocksDB, see `store`
//!   snapshots/<id>/
//!     fs/                 files of a local snapshot: upper directory while active, a layer once committed
//!     work/               overlayfs's own, while active
//!     above/, below/      companions of a published layer, see `whiteouts`
//!   l/<id>, l/<id>a, l/<id>b
//!                         symbolic links to a snapshot's lower directory and its companions
//! ```
//!
//! The links keep mount options short: all lower directories of a mount are entries of one directory. containerd, when
//! options come near the limit of one page, enters the longest common directory and names the rest from there, so even
//! the largest images stay far below it.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, chown, symlink};
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::snapshot::{Content, Kind, Snapshot};

/// The root directory.
#[derive(Debug, Clone)]
pub struct Directories {
    root: PathBuf,
}

/// One directory of a stack of lower directories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The layer itself.
    Layer,
    /// Its companion above.
    Above,
    /// Its companion below.
    Below,
}

impl Directories {
    /// Makes what is missing of the layout.
    pub fn open(root: &Path) -> Result<Self, Error> {
        let this = Self { root: root.to_owned() };
        for path in [root, &root.join("snapshots"), &root.join("l")] {
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
            made.map_err(Error::disk("make the directory", path))?;
        }
        Ok(this)
    }

    /// The database.
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

    /// The companion of a published layer above it.
    pub fn above(&self, id: u64) -> PathBuf {
        self.snapshot(id).join("above")
    }

    /// The companion of a published layer below it.
    pub fn below(&self, id: u64) -> PathBuf {
        self.snapshot(id).join("below")
    }

    /// The short name of a lower directory.
    pub fn link(&self, id: u64, part: Part) -> PathBuf {
        let suffix = match part {
            Part::Layer => "",
            Part::Above => "a",
            Part::Below => "b",
        };
        self.root.join("l").join(format!("{id}{suffix}"))
    }

    /// Makes the directory of a local snapshot. Its root gets the owner of the parent's, as containerd does.
    pub fn make_local(&self, id: u64, kind: Kind, owner: Option<(u32, u32)>) -> Result<(), Error> {
        self.make(&self.snapshot(id), 0o700)?;
        let files = self.files(id);
        self.make(&files, 0o755)?;
        if let Some((uid, gid)) = owner {
            chown(&files, Some(uid), Some(gid)).map_err(Error::disk("change the owner of", &files))?;
        }
        if kind == Kind::Active {
            self.make(&self.work(id), 0o711)?;
        }
        self.make_link(id, Part::Layer, Path::new(&format!("../snapshots/{id}/fs")))
    }

    /// Makes the directory of a published layer, and the links. The companions are empty, to be filled.
    pub fn make_published(&self, id: u64, layerfs: &Path, below: bool) -> Result<(), Error> {
        self.make(&self.snapshot(id), 0o700)?;
        self.make_link(id, Part::Layer, layerfs)?;
        self.make(&self.above(id), 0o755)?;
        self.make_link(id, Part::Above, Path::new(&format!("../snapshots/{id}/above")))?;
        if below {
            self.make(&self.below(id), 0o755)?;
            self.make_link(id, Part::Below, Path::new(&format!("../snapshots/{id}/below")))?;
        }
        Ok(())
    }

    fn make(&self, path: &Path, mode: u32) -> Result<(), Error> {
        // The mode is set again because the process may have a umask.
        let made = fs::DirBuilder::new().mode(mode).create(path).and_then(|()| {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(path, fs::Permissions::from_mode(mode))
        });
        made.map_err(Error::disk("make the directory", path))
    }

    fn make_link(&self, id: u64, part: Part, target: &Path) -> Result<(), Error> {
        let link = self.link(id, part);
        symlink(target, &link).map_err(Error::disk("make the link", link))
    }

    /// Uid and gid of the root directory of a snapshot.
    pub fn owner(&self, snapshot: &Snapshot) -> Result<(u32, u32), Error> {
        use std::os::unix::fs::MetadataExt;
        match &snapshot.content {
            Content::Cvmfs(layer) => Ok(layer.owner),
            Content::Local => {
                let files = self.files(snapshot.id);
                let metadata = fs::metadata(&files).map_err(Error::disk("look at", &files))?;
                Ok((metadata.uid(), metadata.gid()))
            }
        }
    }

    /// Deletes all that a snapshot of this id has. What is not there is no error.
    pub fn remove(&self, id: u64) -> Result<(), Error> {
        for part in [Part::Layer, Part::Above, Part::Below] {
            let link = self.link(id, part);
            missing_is_fine(fs::remove_file(&link)).map_err(Error::disk("delete", link))?;
        }
        let directory = self.snapshot(id);
        missing_is_fine(fs::remove_dir_all(&directory)).map_err(Error::disk("delete", directory))
    }

    /// The ids of which something is there.
    pub fn ids(&self) -> Result<Vec<u64>, Error> {
        let mut ids = Vec::new();
        for folder in ["snapshots", "l"] {
            let path = self.root.join(folder);
            for entry in fs::read_dir(&path).map_err(Error::disk("list", &path))? {
                let name = entry.map_err(Error::disk("list", &path))?.file_name();
                let name = name.to_string_lossy();
                ids.extend(name.trim_end_matches(['a', 'b']).parse::<u64>().ok());
            }
        }
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }
}

fn missing_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
