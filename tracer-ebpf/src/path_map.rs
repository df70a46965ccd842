//! Maps a file, which the kernel identifies by device and path in its file system, to its path in the container, and decides
//! whether it belongs to the container's image, to a CVMFS repository, or is excluded.
//!
//! ```text
//! the container's root       overlay, or a plain directory          -> image
//! a lower layer of it        on CVMFS, or on the host's disk        -> image (reads of an overlay's files are seen here)
//! its upper layer                                                   -> image, but written by the container
//! CVMFS mounted in it        FUSE, with the source `cvmfs2`         -> repository
//! everything else                                                   -> excluded
//! ```

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bundles::layout::is_repository_name;
use bundles::path::RootPath;
use bundles::trace::{ExcludedReason, MountedRepository};

use crate::mounts::{Mount, covering};

/// The mount source that the stock CVMFS client sets.
const CVMFS_SOURCE: &str = "cvmfs2";

/// File systems whose reads bypass the page cache's readers, because the page cache is their only storage.
const IN_MEMORY: [&str; 2] = ["tmpfs", "ramfs"];

/// What a file is to the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Location {
    /// On the container's root. `written`: by the container, so the content is not the image's.
    Image { path: RootPath, written: bool },
    /// On CVMFS, mounted in the container.
    Repository(RootPath),
    /// Elsewhere, so excluded from the trace.
    Outside(ExcludedReason),
    /// On a device that was not mounted when the mounts were read.
    Unknown,
}

/// The directory of a layer: its device, and its path in that file system.
type LayerDirectory = (u32, PathBuf);

/// The mounts and layers of one container.
#[derive(Debug)]
pub(crate) struct PathMap {
    root: LayerDirectory,
    /// The layers of the root, and whether each is the upper one.
    layers: HashMap<LayerDirectory, bool>,
    mounts: Vec<Mount>,
    sees_page_reads: bool,
}

impl PathMap {
    /// `mounts` are those that a process of the container sees, `host` those that show where the container's layers are.
    /// None if the container's root is not among `mounts`.
    pub(crate) fn new(mounts: Vec<Mount>, host: &[Mount]) -> Option<Self> {
        let root = covering(&mounts, Path::new("/"))?;
        let layers = layers(root, host);
        let sees_page_reads = sees_page_reads(root, &layers, host);
        Some(Self { root: (root.device, root.root.clone()), layers, mounts, sees_page_reads })
    }

    /// For a container that ended before its mounts were read: all that the host's mounts show about its root, a directory
    /// on `device`. CVMFS mounts in the container stay unknown.
    pub(crate) fn from_host_mounts(device: u32, root: PathBuf, host: &[Mount]) -> Self {
        let overlay = host.iter().rev().find(|mount| mount.device == device && mount.kind == "overlay");
        let layers = overlay.map(|overlay| layers(overlay, host)).unwrap_or_default();
        let sees_page_reads = overlay.is_some_and(|overlay| sees_page_reads(overlay, &layers, host));
        Self { root: (device, root), layers, mounts: Vec::new(), sees_page_reads }
    }

    /// The device of the container's root.
    pub(crate) fn root_device(&self) -> u32 {
        self.root.0
    }

    /// Whether reads of the image's files can be seen page by page.
    pub(crate) fn sees_page_reads(&self) -> bool {
        self.sees_page_reads
    }

    /// Replaces the root by the one that the kernel part reported, which is right also after a `chroot`.
    pub(crate) fn with_root(self, device: u32, root: PathBuf) -> Self {
        Self { root: (device, root), ..self }
    }

    /// The CVMFS repositories mounted in the container. A repository is named by its mount point's last component; a mount
    /// point without a repository's name is skipped.
    pub(crate) fn repositories(&self) -> Vec<MountedRepository> {
        let repositories = self.mounts.iter().filter(|mount| is_cvmfs(mount) && mount.device != self.root.0);
        let named = repositories.filter_map(|mount| {
            let name = Some(mount.point.file_name()?.to_str()?.to_owned()).filter(|name| is_repository_name(name))?;
            Some(MountedRepository { path: RootPath::new(mount.point.as_os_str().as_bytes()).ok()?, name })
        });
        named.collect()
    }

    /// Locates the file at `path` in the file system on `device`.
    pub(crate) fn locate(&self, device: u32, path: &RootPath) -> Location {
        let path = Path::new(OsStr::from_bytes(path.as_bytes()));
        let image = |path: &Path, written| match container_path(path) {
            Some(path) => Location::Image { path, written },
            None => Location::Unknown,
        };
        if device == self.root.0
            && let Ok(inner) = path.strip_prefix(&self.root.1)
        {
            return image(inner, false);
        }
        // Deeper directories first: a layer may lie inside another one's directory.
        for above in path.ancestors().skip(1) {
            if let Some(is_upper) = self.layers.get(&(device, above.to_owned()))
                && let Ok(inner) = path.strip_prefix(above)
            {
                return image(inner, *is_upper);
            }
        }
        let shows_path = |mount: &&Mount| is_cvmfs(mount) && mount.device == device && path.starts_with(&mount.root);
        if let Some(mount) = self.mounts.iter().rev().find(shows_path) {
            let path = mount.to_mounted(path).and_then(|path| RootPath::new(path.as_os_str().as_bytes()).ok());
            return path.map_or(Location::Unknown, Location::Repository);
        }
        self.locate_outside(device)
    }

    fn locate_outside(&self, device: u32) -> Location {
        if device == self.root.0 || self.layers.keys().any(|(layer_device, _)| *layer_device == device) {
            return Location::Outside(ExcludedReason::OutsideRoot);
        }
        match self.mounts.iter().find(|mount| mount.device == device) {
            Some(mount) if mount.kind == "overlay" => Location::Outside(ExcludedReason::OtherContainer),
            Some(_) => Location::Outside(ExcludedReason::OtherFileSystem),
            None => Location::Unknown,
        }
    }

    /// Locates a path as the container sees it, which need not exist.
    pub(crate) fn locate_container_path(&self, path: RootPath) -> Location {
        match covering(&self.mounts, Path::new(OsStr::from_bytes(path.as_bytes()))) {
            Some(mount) if is_cvmfs(mount) && mount.device != self.root.0 => Location::Repository(path),
            Some(mount) if mount.device != self.root.0 => Location::Outside(ExcludedReason::OtherFileSystem),
            _ => Location::Image { path, written: false },
        }
    }
}

fn is_cvmfs(mount: &Mount) -> bool {
    mount.kind.starts_with("fuse") && mount.source == CVMFS_SOURCE
}

/// Whether all reads of the root's files go through the page cache's readers.
fn sees_page_reads(root: &Mount, layers: &HashMap<LayerDirectory, bool>, host: &[Mount]) -> bool {
    let lower = || layers.iter().filter(|(_, is_upper)| !**is_upper).map(|((device, _), _)| *device);
    let in_memory =
        |device: u32| host.iter().any(|mount| mount.device == device && IN_MEMORY.contains(&mount.kind.as_str()));
    !in_memory(root.device) && !lower().any(in_memory)
}

/// The directories of an overlay's layers.
fn layers(root: &Mount, host: &[Mount]) -> HashMap<LayerDirectory, bool> {
    if root.kind != "overlay" {
        return HashMap::new();
    }
    let directories = root.overlay_directories().resolve();
    let lower = directories.lower.into_iter().map(|path| (path, false));
    let found = lower.chain(directories.upper.map(|path| (path, true))).filter_map(|(path, is_upper)| {
        // The paths of layers may contain symbolic links.
        let path = std::fs::canonicalize(&path).unwrap_or(path);
        let mount = covering(host, &path)?;
        Some(((mount.device, mount.to_file_system(&path)?), is_upper))
    });
    found.collect()
}

fn container_path(inner: &Path) -> Option<RootPath> {
    RootPath::new([b"/", inner.as_os_str().as_bytes()].concat()).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::mounts::tests::mounts;

    const HOST: &str = "1 1 8:1 / / rw - ext4 /dev/sda rw\n\
        2 1 0:40 / /cvmfs/unpacked.cern.ch ro - fuse cvmfs2 ro\n\
        3 1 0:41 / /cvmfs/sft.cern.ch ro - fuse cvmfs2 ro\n\
        4 1 0:42 / /run/c/rootfs rw - overlay overlay rw,\
        lowerdir=/cvmfs/unpacked.cern.ch/.layers/ab/abc/layerfs:/var/snap/1/fs,upperdir=/var/snap/2/fs,workdir=/w\n";
    const CONTAINER: &str = "9 1 0:42 / / rw - overlay overlay rw,\
        lowerdir=/cvmfs/unpacked.cern.ch/.layers/ab/abc/layerfs:/var/snap/1/fs,upperdir=/var/snap/2/fs,workdir=/w\n\
        10 9 0:50 / /proc rw - proc proc rw\n\
        11 9 8:1 /home/user /data rw - ext4 /dev/sda rw\n\
        12 9 0:60 / /nested rw - overlay overlay rw\n\
        13 9 0:41 /lcg /cvmfs/sft.cern.ch ro - fuse cvmfs2 ro\n";

    fn device(minor: u32) -> u32 {
        minor
    }

    fn path(text: &str) -> RootPath {
        RootPath::new(text).unwrap()
    }

    fn image(text: &str, written: bool) -> Location {
        Location::Image { path: path(text), written }
    }

    #[test]
    fn every_file_is_located() {
        let map = PathMap::new(mounts(CONTAINER), &mounts(HOST)).unwrap();
        let sda = 8 << 20 | 1;
        let cases = [
            (device(42), "/usr/bin/root", image("/usr/bin/root", false)),
            (device(40), "/.layers/ab/abc/layerfs/usr/x", image("/usr/x", false)),
            (device(40), "/.layers/ab/abcd/layerfs/usr/x", Location::Outside(ExcludedReason::OutsideRoot)),
            (sda, "/var/snap/1/fs/etc/passwd", image("/etc/passwd", false)),
            (sda, "/var/snap/2/fs/tmp/made", image("/tmp/made", true)),
            (sda, "/var/snap/3/fs/tmp/made", Location::Outside(ExcludedReason::OutsideRoot)),
            (sda, "/home/user/thesis", Location::Outside(ExcludedReason::OutsideRoot)),
            (device(41), "/lcg/views/x", Location::Repository(path("/cvmfs/sft.cern.ch/views/x"))),
            (device(41), "/other", Location::Outside(ExcludedReason::OtherFileSystem)),
            (device(50), "/self/status", Location::Outside(ExcludedReason::OtherFileSystem)),
            (device(60), "/x", Location::Outside(ExcludedReason::OtherContainer)),
            (device(99), "/x", Location::Unknown),
        ];
        for (device, inner, expected) in cases {
            assert_eq!(map.locate(device, &path(inner)), expected, "{device} {inner}");
        }
        let repositories = map.repositories();
        assert_eq!(repositories.len(), 1);
        assert_eq!(
            (repositories[0].path.clone(), repositories[0].name.as_str()),
            (path("/cvmfs/sft.cern.ch"), "sft.cern.ch")
        );
    }

    #[test]
    fn reads_of_layers_in_memory_are_not_seen() {
        let host = |kind: &str| mounts(&format!("1 1 0:70 / / rw - {kind} x rw\n2 1 0:71 / /up rw - tmpfs x rw\n"));
        let container = mounts("9 1 0:42 / / rw - overlay overlay rw,lowerdir=/low,upperdir=/up/1,workdir=/up/2\n");
        for (kind, sees) in [("ext4", true), ("fuse", true), ("tmpfs", false), ("ramfs", false)] {
            let map = PathMap::new(container.clone(), &host(kind)).unwrap();
            assert_eq!(map.sees_page_reads(), sees, "{kind}");
        }
    }

    #[test]
    fn a_mount_without_a_repository_name_is_no_repository() {
        let map =
            PathMap::new(mounts("9 1 0:42 / / rw - ext4 x rw\n10 9 0:41 / /mnt ro - fuse cvmfs2 ro\n"), &[]).unwrap();
        assert_eq!(map.repositories(), []);
        assert_eq!(map.locate(device(41), &path("/a")), Location::Repository(path("/mnt/a")));
    }

    #[test]
    fn an_ended_container_is_located_by_the_hosts_mounts() {
        let map = PathMap::from_host_mounts(device(42), "/".into(), &mounts(HOST));
        assert_eq!(map.locate(device(42), &path("/a")), image("/a", false));
        assert_eq!(map.locate(device(40), &path("/.layers/ab/abc/layerfs/a")), image("/a", false));
        assert_eq!(map.locate(device(41), &path("/lcg/a")), Location::Unknown);
    }

    #[test]
    fn a_root_in_a_plain_directory_excludes_the_rest_of_its_file_system() {
        let text = "9 1 8:1 /roots/7 / rw - ext4 /dev/sda rw\n10 9 8:1 /home /data rw - ext4 /dev/sda rw\n";
        let map = PathMap::new(mounts(text), &mounts(HOST)).unwrap();
        let sda = 8 << 20 | 1;
        assert_eq!(map.locate(sda, &path("/roots/7/etc/x")), image("/etc/x", false));
        assert_eq!(map.locate(sda, &path("/roots/77/etc/x")), Location::Outside(ExcludedReason::OutsideRoot));
        assert_eq!(map.locate(sda, &path("/home/x")), Location::Outside(ExcludedReason::OutsideRoot));
    }

    #[test]
    fn absent_paths_are_located_by_the_mounts_above_them() {
        let map = PathMap::new(mounts(CONTAINER), &mounts(HOST)).unwrap();
        assert_eq!(map.locate_container_path(path("/usr/none")), image("/usr/none", false));
        assert_eq!(
            map.locate_container_path(path("/cvmfs/sft.cern.ch/none")),
            Location::Repository(path("/cvmfs/sft.cern.ch/none"))
        );
        for outside in ["/data/none", "/proc/9/none"] {
            assert_eq!(
                map.locate_container_path(path(outside)),
                Location::Outside(ExcludedReason::OtherFileSystem),
                "{outside}"
            );
        }
    }
}
