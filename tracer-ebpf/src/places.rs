//! Where a file is that the kernel knows by the device and the path in its file system: at which place of the container,
//! and whether the container's image, a CVMFS repository, or neither has it.
//!
//! ```text
//! the container's root       overlay, or a plain directory          -> image
//! a lower layer of that      on CVMFS, or on the host's disk        -> image (reads of an overlay's files end here)
//! its upper layer                                                   -> image, but written by the container
//! CVMFS mounted in it        FUSE, with the source `cvmfs2`         -> repository
//! all else                                                          -> left out, for it is none of our business
//! ```

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bundles::cvmfs::is_repository_name;
use bundles::path::RootPath;
use bundles::trace::{ExcludedReason, MountedRepository};

use crate::mounts::{Mount, covering, overlay_directories};

/// What the stock client gives as the source of its mounts.
const CVMFS_SOURCE: &str = "cvmfs2";

/// File systems that have no other place for a file than the page cache.
const IN_MEMORY: [&str; 2] = ["tmpfs", "ramfs"];

/// Where a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// On the container's root. `written`: by the container, so not the image's.
    Image { path: RootPath, written: bool },
    /// On CVMFS, mounted in the container.
    Repository(RootPath),
    /// Elsewhere.
    Outside(ExcludedReason),
    /// On a device that was not mounted when the mounts were looked at.
    Unknown,
}

/// What is known of one container's mounts.
#[derive(Debug)]
pub(crate) struct Places {
    root: (u32, PathBuf),
    /// Directories of layers, and whether that is the upper one.
    layers: HashMap<(u32, PathBuf), bool>,
    mounts: Vec<Mount>,
    /// Whether the pages that are read of the image can be seen.
    tells_pages: bool,
}

impl Places {
    /// `mounts` are those that a process of the container sees, `host` those from which the container's layers are seen.
    /// None if the container's root is not among them.
    pub(crate) fn new(mounts: Vec<Mount>, host: &[Mount]) -> Option<Self> {
        let root = covering(&mounts, Path::new("/"))?;
        let layers = layers(root, host);
        let tells_pages = tells_pages(root, &layers, host);
        Some(Self { root: (root.device, root.root.clone()), layers, mounts, tells_pages })
    }

    /// For a container that was too short-lived to be asked: what the host's own mounts tell of its root, a directory
    /// on `device`. CVMFS mounts in it are not known.
    pub(crate) fn of_root(device: u32, root: PathBuf, host: &[Mount]) -> Self {
        let overlay = host.iter().rev().find(|mount| mount.device == device && mount.kind == "overlay");
        let layers = overlay.map(|overlay| layers(overlay, host)).unwrap_or_default();
        let tells_pages = overlay.is_some_and(|overlay| tells_pages(overlay, &layers, host));
        Self { root: (device, root), layers, mounts: Vec::new(), tells_pages }
    }

    /// The device of the container's root.
    pub(crate) fn root_device(&self) -> u32 {
        self.root.0
    }

    /// Whether the parts that are read of the image's files can be seen.
    pub(crate) fn tells_pages(&self) -> bool {
        self.tells_pages
    }

    /// The same with the root as the kernel told it, which is right also after a change of the root.
    pub(crate) fn with_root(self, device: u32, root: PathBuf) -> Self {
        Self { root: (device, root), ..self }
    }

    /// The CVMFS repositories mounted in the container. A mount's name is that of its directory, as everywhere; one whose
    /// directory has no repository's name cannot be told.
    pub(crate) fn repositories(&self) -> Vec<MountedRepository> {
        let repositories = self.mounts.iter().filter(|mount| is_cvmfs(mount) && mount.device != self.root.0);
        let named = repositories.filter_map(|mount| {
            let name = Some(mount.point.file_name()?.to_str()?.to_owned()).filter(|name| is_repository_name(name))?;
            Some(MountedRepository { path: RootPath::new(mount.point.as_os_str().as_bytes()).ok()?, name })
        });
        named.collect()
    }

    /// Where the file is that has `path` in the file system on `device`.
    pub(crate) fn find(&self, device: u32, path: &RootPath) -> Place {
        let path = Path::new(OsStr::from_bytes(path.as_bytes()));
        let image = |path: &Path, written| match container_path(path) {
            Some(path) => Place::Image { path, written },
            None => Place::Unknown,
        };
        if device == self.root.0
            && let Ok(inner) = path.strip_prefix(&self.root.1)
        {
            return image(inner, false);
        }
        // Deeper directories first: a layer may lie in another's.
        for above in path.ancestors().skip(1) {
            if let Some(upper) = self.layers.get(&(device, above.to_owned()))
                && let Ok(inner) = path.strip_prefix(above)
            {
                return image(inner, *upper);
            }
        }
        let seen = |mount: &&Mount| is_cvmfs(mount) && mount.device == device && path.starts_with(&mount.root);
        if let Some(mount) = self.mounts.iter().rev().find(seen) {
            let path = mount.seen(path).and_then(|path| RootPath::new(path.as_os_str().as_bytes()).ok());
            return path.map_or(Place::Unknown, Place::Repository);
        }
        self.outside(device)
    }

    fn outside(&self, device: u32) -> Place {
        if device == self.root.0 || self.layers.keys().any(|(known, _)| *known == device) {
            return Place::Outside(ExcludedReason::OutsideRoot);
        }
        match self.mounts.iter().find(|mount| mount.device == device) {
            Some(mount) if mount.kind == "overlay" => Place::Outside(ExcludedReason::OtherContainer),
            Some(_) => Place::Outside(ExcludedReason::OtherFileSystem),
            None => Place::Unknown,
        }
    }

    /// Where the container sees `path`: on its root or CVMFS, or on something else that is mounted on it.
    pub(crate) fn named(&self, path: RootPath) -> Place {
        match covering(&self.mounts, Path::new(OsStr::from_bytes(path.as_bytes()))) {
            Some(mount) if is_cvmfs(mount) && mount.device != self.root.0 => Place::Repository(path),
            Some(mount) if mount.device != self.root.0 => Place::Outside(ExcludedReason::OtherFileSystem),
            _ => Place::Image { path, written: false },
        }
    }
}

fn is_cvmfs(mount: &Mount) -> bool {
    mount.kind.starts_with("fuse") && mount.source == CVMFS_SOURCE
}

/// Whether all that is read of a root goes through the page cache's readers, which tmpfs does without.
fn tells_pages(root: &Mount, layers: &HashMap<(u32, PathBuf), bool>, host: &[Mount]) -> bool {
    let lower = || layers.iter().filter(|(_, upper)| !**upper).map(|((device, _), _)| *device);
    let in_memory =
        |device: u32| host.iter().any(|mount| mount.device == device && IN_MEMORY.contains(&mount.kind.as_str()));
    !in_memory(root.device) && !lower().any(in_memory)
}

/// Where the layers of an overlay lie.
fn layers(root: &Mount, host: &[Mount]) -> HashMap<(u32, PathBuf), bool> {
    if root.kind != "overlay" {
        return HashMap::new();
    }
    let (lower, upper) = overlay_directories(root);
    let all = lower.into_iter().map(|path| (path, false)).chain(upper.map(|path| (path, true)));
    let found = all.filter_map(|(path, upper)| {
        // Layers may be given by way of links.
        let path = std::fs::canonicalize(&path).unwrap_or(path);
        let mount = covering(host, &path)?;
        Some(((mount.device, mount.in_file_system(&path)?), upper))
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

    fn image(text: &str, written: bool) -> Place {
        Place::Image { path: path(text), written }
    }

    #[test]
    fn every_file_has_its_place() {
        let places = Places::new(mounts(CONTAINER), &mounts(HOST)).unwrap();
        let sda = 8 << 20 | 1;
        let cases = [
            (device(42), "/usr/bin/root", image("/usr/bin/root", false)),
            (device(40), "/.layers/ab/abc/layerfs/usr/x", image("/usr/x", false)),
            (device(40), "/.layers/ab/abcd/layerfs/usr/x", Place::Outside(ExcludedReason::OutsideRoot)),
            (sda, "/var/snap/1/fs/etc/passwd", image("/etc/passwd", false)),
            (sda, "/var/snap/2/fs/tmp/made", image("/tmp/made", true)),
            (sda, "/var/snap/3/fs/tmp/made", Place::Outside(ExcludedReason::OutsideRoot)),
            (sda, "/home/user/thesis", Place::Outside(ExcludedReason::OutsideRoot)),
            (device(41), "/lcg/views/x", Place::Repository(path("/cvmfs/sft.cern.ch/views/x"))),
            (device(41), "/other", Place::Outside(ExcludedReason::OtherFileSystem)),
            (device(50), "/self/status", Place::Outside(ExcludedReason::OtherFileSystem)),
            (device(60), "/x", Place::Outside(ExcludedReason::OtherContainer)),
            (device(99), "/x", Place::Unknown),
        ];
        for (device, inner, expected) in cases {
            assert_eq!(places.find(device, &path(inner)), expected, "{device} {inner}");
        }
        let repositories = places.repositories();
        assert_eq!(repositories.len(), 1);
        assert_eq!(
            (repositories[0].path.clone(), repositories[0].name.as_str()),
            (path("/cvmfs/sft.cern.ch"), "sft.cern.ch")
        );
    }

    #[test]
    fn layers_in_memory_do_not_tell_what_is_read_of_them() {
        let host = |kind: &str| mounts(&format!("1 1 0:70 / / rw - {kind} x rw\n2 1 0:71 / /up rw - tmpfs x rw\n"));
        let container = mounts("9 1 0:42 / / rw - overlay overlay rw,lowerdir=/low,upperdir=/up/1,workdir=/up/2\n");
        for (kind, tells) in [("ext4", true), ("fuse", true), ("tmpfs", false), ("ramfs", false)] {
            let places = Places::new(container.clone(), &host(kind)).unwrap();
            assert_eq!(places.tells_pages(), tells, "{kind}");
        }
    }

    #[test]
    fn a_mount_without_a_repositorys_name_is_none() {
        let places =
            Places::new(mounts("9 1 0:42 / / rw - ext4 x rw\n10 9 0:41 / /mnt ro - fuse cvmfs2 ro\n"), &[]).unwrap();
        assert_eq!(places.repositories(), []);
        assert_eq!(places.find(device(41), &path("/a")), Place::Repository(path("/mnt/a")));
    }

    #[test]
    fn a_container_that_is_gone_is_known_by_the_hosts_mounts() {
        let places = Places::of_root(device(42), "/".into(), &mounts(HOST));
        assert_eq!(places.find(device(42), &path("/a")), image("/a", false));
        assert_eq!(places.find(device(40), &path("/.layers/ab/abc/layerfs/a")), image("/a", false));
        assert_eq!(places.find(device(41), &path("/lcg/a")), Place::Unknown);
    }

    #[test]
    fn a_root_that_is_a_plain_directory_is_told_from_the_rest_of_its_file_system() {
        let text = "9 1 8:1 /roots/7 / rw - ext4 /dev/sda rw\n10 9 8:1 /home /data rw - ext4 /dev/sda rw\n";
        let places = Places::new(mounts(text), &mounts(HOST)).unwrap();
        let sda = 8 << 20 | 1;
        assert_eq!(places.find(sda, &path("/roots/7/etc/x")), image("/etc/x", false));
        assert_eq!(places.find(sda, &path("/roots/77/etc/x")), Place::Outside(ExcludedReason::OutsideRoot));
        assert_eq!(places.find(sda, &path("/home/x")), Place::Outside(ExcludedReason::OutsideRoot));
    }

    #[test]
    fn paths_that_were_only_named_are_told_by_the_mounts_above_them() {
        let places = Places::new(mounts(CONTAINER), &mounts(HOST)).unwrap();
        assert_eq!(places.named(path("/usr/none")), image("/usr/none", false));
        assert_eq!(places.named(path("/cvmfs/sft.cern.ch/none")), Place::Repository(path("/cvmfs/sft.cern.ch/none")));
        for outside in ["/data/none", "/proc/9/none"] {
            assert_eq!(places.named(path(outside)), Place::Outside(ExcludedReason::OtherFileSystem), "{outside}");
        }
    }
}
