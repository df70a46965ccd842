//! Writing a layer's tar file.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tar::{Builder, EntryType, Header};

use super::EPOCH;

/// Who owns an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// A layer's tar file in the making. Paths are relative to the root of the container (`etc/passwd`); a leading `/` is
/// dropped. Entries come in the order of the calls and, unless set otherwise, belong to root and have the same time.
#[derive(Debug)]
pub struct LayerTar {
    tar: TarBytes,
    owner: Owner,
    mtime: u64,
    /// Modes of the files so far, which their hard links share.
    modes: HashMap<PathBuf, u32>,
}

struct TarBytes(Builder<Vec<u8>>);

impl std::fmt::Debug for TarBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "tar of {} bytes", self.0.get_ref().len())
    }
}

impl LayerTar {
    pub(super) fn new() -> Self {
        Self { tar: TarBytes(Builder::new(Vec::new())), owner: Owner::default(), mtime: EPOCH, modes: HashMap::new() }
    }

    /// Sets the owner of the entries that follow.
    pub fn owner(&mut self, owner: Owner) -> &mut Self {
        self.owner = owner;
        self
    }

    /// Sets the modification time of the entries that follow.
    pub fn mtime(&mut self, seconds: u64) -> &mut Self {
        self.mtime = seconds;
        self
    }

    /// A regular file; `mode` may hold the set-user-ID bit and its kin.
    pub fn file(&mut self, path: impl AsRef<Path>, mode: u32, content: impl AsRef<[u8]>) -> Result<()> {
        let content = content.as_ref();
        self.modes.insert(relative(path.as_ref()).to_owned(), mode);
        let mut header = self.header(EntryType::Regular, mode);
        header.set_size(content.len() as u64);
        self.append(&mut header, path.as_ref(), content)
    }

    /// A regular file with extended attributes, given by their names and values.
    pub fn file_with_attributes(
        &mut self,
        path: impl AsRef<Path>,
        mode: u32,
        content: impl AsRef<[u8]>,
        attributes: &[(&str, &[u8])],
    ) -> Result<()> {
        let records: Vec<u8> = attributes.iter().flat_map(|(name, value)| pax_record(name, value)).collect();
        let mut header = self.header(EntryType::XHeader, 0o644);
        header.set_size(records.len() as u64);
        self.append(&mut header, Path::new("attributes"), &records)?;
        self.file(path, mode, content)
    }

    /// A directory.
    pub fn dir(&mut self, path: impl AsRef<Path>, mode: u32) -> Result<()> {
        let mut header = self.header(EntryType::Directory, mode);
        self.append(&mut header, path.as_ref(), &[])
    }

    /// A symbolic link at `path`.
    pub fn symlink(&mut self, path: impl AsRef<Path>, target: impl AsRef<Path>) -> Result<()> {
        self.link(EntryType::Symlink, 0o777, path.as_ref(), target.as_ref())
    }

    /// A hard link at `path` to the entry `target`, which must be in this layer.
    pub fn hardlink(&mut self, path: impl AsRef<Path>, target: impl AsRef<Path>) -> Result<()> {
        let target = relative(target.as_ref());
        let mode = *self.modes.get(target).with_context(|| format!("{target:?} is no file of this layer"))?;
        self.link(EntryType::Link, mode, path.as_ref(), target)
    }

    /// A named pipe.
    pub fn fifo(&mut self, path: impl AsRef<Path>, mode: u32) -> Result<()> {
        let mut header = self.header(EntryType::Fifo, mode);
        self.append(&mut header, path.as_ref(), &[])
    }

    /// A character device.
    pub fn character_device(&mut self, path: impl AsRef<Path>, mode: u32, major: u32, minor: u32) -> Result<()> {
        self.device(EntryType::Char, path.as_ref(), mode, (major, minor))
    }

    /// A block device.
    pub fn block_device(&mut self, path: impl AsRef<Path>, mode: u32, major: u32, minor: u32) -> Result<()> {
        self.device(EntryType::Block, path.as_ref(), mode, (major, minor))
    }

    /// Deletes `path`, a file or a directory of a lower layer.
    pub fn whiteout(&mut self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let name = path.file_name().with_context(|| format!("{path:?} has no name"))?;
        let mut whiteout = std::ffi::OsString::from(".wh.");
        whiteout.push(name);
        self.file(path.with_file_name(whiteout), 0o644, [])
    }

    /// Hides everything that lower layers have in directory `path`. The directory itself must be added before.
    pub fn opaque(&mut self, path: impl AsRef<Path>) -> Result<()> {
        self.file(path.as_ref().join(".wh..wh..opq"), 0o644, [])
    }

    /// The bytes of the tar file.
    pub(super) fn finish(self) -> Result<Vec<u8>> {
        Ok(self.tar.0.into_inner()?)
    }

    fn header(&self, kind: EntryType, mode: u32) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(self.owner.uid.into());
        header.set_gid(self.owner.gid.into());
        header.set_mtime(self.mtime);
        header.set_size(0);
        header
    }

    fn append(&mut self, header: &mut Header, path: &Path, content: &[u8]) -> Result<()> {
        let path = relative(path);
        self.tar.0.append_data(header, path, content).with_context(|| format!("cannot add {path:?} to a layer"))
    }

    fn link(&mut self, kind: EntryType, mode: u32, path: &Path, target: &Path) -> Result<()> {
        let mut header = self.header(kind, mode);
        let path = relative(path);
        self.tar
            .0
            .append_link(&mut header, path, target)
            .with_context(|| format!("cannot add link {path:?} to a layer"))
    }

    fn device(&mut self, kind: EntryType, path: &Path, mode: u32, (major, minor): (u32, u32)) -> Result<()> {
        let mut header = self.header(kind, mode);
        header.set_device_major(major)?;
        header.set_device_minor(minor)?;
        self.append(&mut header, path, &[])
    }
}

/// `<length of all this> SCHILY.xattr.<name>=<value>\n`
fn pax_record(name: &str, value: &[u8]) -> Vec<u8> {
    let rest = [b" SCHILY.xattr.", name.as_bytes(), b"=", value, b"\n"].concat();
    // The length counts its own digits.
    let mut length = rest.len();
    while length != rest.len() + length.to_string().len() {
        length = rest.len() + length.to_string().len();
    }
    [length.to_string().as_bytes(), &rest].concat()
}

fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}
