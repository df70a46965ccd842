//! The FUSE requests of the kernel.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use fuser::{
    AccessFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, OpenAccMode, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyDirectoryPlus,
    ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyXattr, Request,
};
use rsa::RsaPublicKey;

use super::entry::Entry;
use super::inodes::{Changes, Inode, Inodes, ROOT};
use super::native::Armed;
use super::objects::Objects;
use super::open_file::OpenFile;
use super::root::Root;
use super::tree::Tree;
use super::xattr::{self, MountFacts};

/// How long the kernel may cache names and attributes; a new revision invalidates what it changes.
const REMEMBERED: Duration = Duration::from_secs(3600);

/// A mounted revision.
#[derive(Debug)]
struct Revision {
    root: Root,
    tree: Tree,
}

/// State shared by FUSE's threads and the control socket.
#[derive(Debug)]
pub(super) struct Mounted {
    pub(super) objects: Arc<Objects>,
    pub(super) native: Armed,
    master_key: RsaPublicKey,
    facts: MountFacts,
    /// Locked for reading during a request, so that no response mixes two revisions.
    revision: RwLock<Revision>,
    inodes: Inodes,
    files: RwLock<HashMap<u64, Arc<OpenFile>>>,
    directories: RwLock<HashMap<u64, Arc<Listing>>>,
    last_handle: AtomicU64,
}

type Listing = Vec<(u64, FileType, String)>;

impl Mounted {
    /// Verifies and loads the current revision.
    pub(super) fn new(objects: Arc<Objects>, master_key: RsaPublicKey, facts: MountFacts) -> Result<Self> {
        let root = Root::fetch(&objects, &master_key)?;
        let tree = Tree::new(Arc::clone(&objects), root.catalog)?;
        let entry = tree.lookup("")?.ok_or_else(|| anyhow::anyhow!("the root catalog has no root"))?;
        Ok(Self {
            objects,
            native: Armed::default(),
            master_key,
            facts,
            revision: RwLock::new(Revision { root, tree }),
            inodes: Inodes::new(entry),
            files: RwLock::default(),
            directories: RwLock::default(),
            last_handle: AtomicU64::new(0),
        })
    }

    /// Loads the newest revision; returns its number and what the kernel must invalidate.
    pub(super) fn reload(&self) -> Result<(u64, Changes)> {
        let root = Root::fetch(&self.objects, &self.master_key)?;
        let tree = Tree::new(Arc::clone(&self.objects), root.catalog)?;
        let mut changed = Vec::new();
        for (path, old) in self.inodes.known() {
            let new = tree.lookup(&path)?;
            if new.as_ref() != Some(&old) {
                changed.push((path, new));
            }
        }
        let number = root.revision;
        let mut revision = self.revision.write().unwrap_or_else(PoisonError::into_inner);
        *revision = Revision { root, tree };
        Ok((number, self.inodes.apply(changed)))
    }

    fn lookup_child(&self, parent: u64, name: &str) -> Result<Option<FileAttr>, Errno> {
        let directory = self.inode(parent)?;
        let path = format!("{}/{name}", directory.path);
        let revision = self.revision.read().unwrap_or_else(PoisonError::into_inner);
        match revision.tree.lookup(&path).map_err(|error| failed(&path, &error))? {
            Some(entry) => {
                let number = self.inodes.insert(path, parent, name, entry.clone());
                Ok(Some(attributes(number, &entry)))
            }
            None => Ok(None),
        }
    }

    fn list(&self, number: u64) -> Result<Listing, Errno> {
        let directory = self.inode(number)?;
        if directory.entry.kind != FileType::Directory {
            return Err(Errno::ENOTDIR);
        }
        let revision = self.revision.read().unwrap_or_else(PoisonError::into_inner);
        let children = revision.tree.list(&directory.path).map_err(|error| failed(&directory.path, &error))?;
        let mut listing = vec![
            (number, FileType::Directory, ".".to_owned()),
            (directory.parent, FileType::Directory, "..".to_owned()),
        ];
        listing.extend(children.into_iter().map(|(name, entry)| {
            let kind = entry.kind;
            (self.inodes.insert(format!("{}/{name}", directory.path), number, &name, entry), kind, name)
        }));
        Ok(listing)
    }

    fn open_file(&self, number: u64) -> Result<OpenFile, Errno> {
        let inode = self.inode(number)?;
        if inode.entry.kind != FileType::RegularFile {
            return Err(Errno::EINVAL);
        }
        self.native.opened(&inode.path);
        let revision = self.revision.read().unwrap_or_else(PoisonError::into_inner);
        OpenFile::open(&inode.path, &inode.entry, &revision.tree, &self.objects)
            .map_err(|error| failed(&inode.path, &error))
    }

    fn attribute(&self, number: u64, name: &str) -> Result<String, Errno> {
        let inode = self.inode(number)?;
        let revision = self.revision.read().unwrap_or_else(PoisonError::into_inner);
        xattr::get(name, &inode.path, &inode.entry, &self.facts, &revision.root, &revision.tree)
            .map_err(|error| failed(&inode.path, &error))?
            .ok_or(Errno::ENODATA)
    }

    fn inode(&self, number: u64) -> Result<Arc<Inode>, Errno> {
        self.inodes.get(number).ok_or(Errno::ESTALE)
    }

    fn new_handle(&self) -> u64 {
        self.last_handle.fetch_add(1, Ordering::Relaxed) + 1
    }
}

fn failed(path: &str, error: &anyhow::Error) -> Errno {
    tracing::warn!(path, "{error:#}");
    Errno::EIO
}

fn attributes(number: u64, entry: &Entry) -> FileAttr {
    let time = match u64::try_from(entry.modified) {
        Ok(seconds) => UNIX_EPOCH + Duration::from_secs(seconds),
        Err(_) => SystemTime::UNIX_EPOCH - Duration::from_secs(entry.modified.unsigned_abs()),
    };
    FileAttr {
        ino: INodeNo(number),
        size: entry.size,
        blocks: entry.size.div_ceil(512),
        atime: time,
        mtime: time,
        ctime: time,
        crtime: time,
        kind: entry.kind,
        perm: entry.permissions,
        nlink: entry.links,
        uid: entry.uid,
        gid: entry.gid,
        rdev: entry.device,
        blksize: 4096,
        flags: 0,
    }
}

/// A response "no such name" that the kernel may cache: an entry without an inode.
fn absence() -> FileAttr {
    FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 0,
        flags: 0,
    }
}

/// The FUSE side of [`Mounted`].
#[derive(Debug)]
pub(super) struct MountedFilesystem(pub(super) Arc<Mounted>);

impl Filesystem for MountedFilesystem {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        // Optional: a kernel without them is only slower.
        let _ = config.add_capabilities(InitFlags::FUSE_CACHE_SYMLINKS);
        let _ = config.add_capabilities(InitFlags::FUSE_PARALLEL_DIROPS);
        // As the crate `cvmfs` does in its own mount: a listing saves the lookups of its names.
        let _ = config.add_capabilities(InitFlags::FUSE_DO_READDIRPLUS | InitFlags::FUSE_READDIRPLUS_AUTO);
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let Some(name) = name.to_str() else {
            return reply.error(Errno::ENOENT);
        };
        match self.0.lookup_child(parent.0, name) {
            Ok(Some(attributes)) => reply.entry(&REMEMBERED, &attributes, Generation(0)),
            Ok(None) if self.0.inodes.insert_absent(parent.0, name) => {
                reply.entry(&REMEMBERED, &absence(), Generation(0));
            }
            Ok(None) => reply.error(Errno::ENOENT),
            Err(errno) => reply.error(errno),
        }
    }

    fn getattr(&self, _request: &Request, number: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        match self.0.inode(number.0) {
            Ok(inode) => reply.attr(&REMEMBERED, &attributes(number.0, &inode.entry)),
            Err(errno) => reply.error(errno),
        }
    }

    fn readlink(&self, _request: &Request, number: INodeNo, reply: ReplyData) {
        match self.0.inode(number.0) {
            Ok(inode) => match &inode.entry.target {
                Some(target) => reply.data(target.as_bytes()),
                None => reply.error(Errno::EINVAL),
            },
            Err(errno) => reply.error(errno),
        }
    }

    fn open(&self, _request: &Request, number: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        if flags.acc_mode() != OpenAccMode::O_RDONLY {
            return reply.error(Errno::EROFS);
        }
        match self.0.open_file(number.0) {
            Ok(file) => {
                let handle = self.0.new_handle();
                self.0.files.write().unwrap_or_else(PoisonError::into_inner).insert(handle, Arc::new(file));
                reply.opened(FileHandle(handle), FopenFlags::FOPEN_KEEP_CACHE);
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn read(
        &self,
        _request: &Request,
        number: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let file = self.0.files.read().unwrap_or_else(PoisonError::into_inner).get(&handle.0).cloned();
        match file.map(|file| file.read(offset, size as usize)) {
            Some(Ok(data)) => reply.data(&data),
            Some(Err(error)) => {
                let path = self.0.inode(number.0).map(|inode| inode.path.clone()).unwrap_or_default();
                reply.error(failed(&path, &error));
            }
            None => reply.error(Errno::EBADF),
        }
    }

    fn release(
        &self,
        _request: &Request,
        _number: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.0.files.write().unwrap_or_else(PoisonError::into_inner).remove(&handle.0);
        reply.ok();
    }

    fn opendir(&self, _request: &Request, number: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        match self.0.list(number.0) {
            Ok(listing) => {
                let handle = self.0.new_handle();
                self.0.directories.write().unwrap_or_else(PoisonError::into_inner).insert(handle, Arc::new(listing));
                reply.opened(FileHandle(handle), FopenFlags::empty());
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn readdir(
        &self,
        _request: &Request,
        _number: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let listing = self.0.directories.read().unwrap_or_else(PoisonError::into_inner).get(&handle.0).cloned();
        let Some(listing) = listing else {
            return reply.error(Errno::EBADF);
        };
        for (index, (number, kind, name)) in listing.iter().enumerate().skip(offset as usize) {
            if reply.add(INodeNo(*number), index as u64 + 1, *kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn readdirplus(
        &self,
        _request: &Request,
        _number: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let listing = self.0.directories.read().unwrap_or_else(PoisonError::into_inner).get(&handle.0).cloned();
        let Some(listing) = listing else {
            return reply.error(Errno::EBADF);
        };
        for (index, (number, _, name)) in listing.iter().enumerate().skip(offset as usize) {
            let Ok(inode) = self.0.inode(*number) else {
                return reply.error(Errno::ESTALE);
            };
            let attributes = attributes(*number, &inode.entry);
            if reply.add(INodeNo(*number), index as u64 + 1, name, &REMEMBERED, &attributes, Generation(0)) {
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(
        &self,
        _request: &Request,
        _number: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.0.directories.write().unwrap_or_else(PoisonError::into_inner).remove(&handle.0);
        reply.ok();
    }

    fn statfs(&self, _request: &Request, _number: INodeNo, reply: ReplyStatfs) {
        // Like the stock client: the free space of its cache.
        match nix::sys::statvfs::statvfs(self.0.objects.cache.directory()) {
            Ok(s) => {
                reply.statfs(s.blocks(), s.blocks_free(), s.blocks_available(), 0, 0, s.fragment_size() as u32, 255, 0);
            }
            Err(errno) => reply.error(Errno::from_i32(errno as i32)),
        }
    }

    fn getxattr(&self, _request: &Request, number: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        // Overlayfs queries its own names and fails on any error but ENODATA.
        match name.to_str().map(|name| self.0.attribute(number.0, name)) {
            Some(Ok(value)) => answer_xattr(value.as_bytes(), size, reply),
            Some(Err(errno)) => reply.error(errno),
            None => reply.error(Errno::ENODATA),
        }
    }

    fn listxattr(&self, _request: &Request, number: INodeNo, size: u32, reply: ReplyXattr) {
        answer_xattr(&xattr::list(number.0 == ROOT), size, reply);
    }

    fn access(&self, _request: &Request, number: INodeNo, mask: AccessFlags, reply: ReplyEmpty) {
        match self.0.inode(number.0) {
            Ok(_) if mask.contains(AccessFlags::W_OK) => reply.error(Errno::EROFS),
            Ok(_) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
    }
}

/// Size 0 queries the size.
fn answer_xattr(value: &[u8], size: u32, reply: ReplyXattr) {
    match (size as usize, value.len()) {
        (0, length) => reply.size(length as u32),
        (room, length) if room < length => reply.error(Errno::ERANGE),
        _ => reply.data(value),
    }
}
