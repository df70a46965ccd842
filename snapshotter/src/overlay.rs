//! The mounts of a snapshot: the ones that containerd's own overlayfs snapshotter would return, with published layers in
//! place of unpacked ones. containerd does the mounting.

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use containerd_snapshots::api::types::Mount;

use crate::snapshots::directories::{Directories, Part};
use crate::snapshots::{Content, Kind, Snapshot};

/// Whether the kernel's overlayfs has an inode index, which mounts must then switch off as containerd does: the index
/// refuses an upper directory that was mounted with other lower directories before.
pub fn index_can_be_off() -> bool {
    Path::new("/sys/module/overlay/parameters/index").exists()
}

/// The lower directories of a mount, topmost first. `ancestors` is the chain of parents, nearest first.
pub fn lower_directories(ancestors: &[&Snapshot], directories: &Directories) -> Vec<PathBuf> {
    let mut stack = Vec::new();
    // overlayfs refuses a directory that is listed twice. A layer that occurs again further down changes nothing: the upper
    // one shows and deletes the same files already.
    let mut seen = HashSet::new();
    let mut catalogs_visible = true;
    for (index, snapshot) in ancestors.iter().enumerate() {
        let link = |part| directories.link(snapshot.id, part);
        match &snapshot.content {
            Content::Local => stack.push(link(Part::Layer)),
            Content::Cvmfs(layer) if seen.insert(&layer.layerfs) => {
                let is_lowest = index + 1 == ancestors.len();
                stack.extend((layer.companion_above || catalogs_visible).then(|| link(Part::Above)));
                catalogs_visible = false;
                stack.push(link(Part::Layer));
                stack.extend((layer.companion_below && !is_lowest).then(|| link(Part::Below)));
            }
            Content::Cvmfs(_) => {}
        }
    }
    stack
}

/// The mounts of an active snapshot or view.
pub fn mounts(snapshot: &Snapshot, ancestors: &[&Snapshot], directories: &Directories, index_off: bool) -> Vec<Mount> {
    let id = snapshot.id;
    let lower = lower_directories(ancestors, directories);
    match (snapshot.kind, lower.as_slice()) {
        (Kind::View, []) => vec![bind(directories.files(id), "ro")],
        (_, []) => vec![bind(directories.files(id), "rw")],
        // A single lower directory is always an unpacked layer, as a published one has its companion above. It is mounted by
        // its real path, not by its link, so that the mount table shows where the files are.
        (Kind::View, [_]) => {
            let only = ancestors.first().map(|parent| directories.files(parent.id));
            vec![bind(only.unwrap_or_default(), "ro")]
        }
        (kind, lower) => {
            let mut options = Vec::new();
            options.extend(index_off.then(|| "index=off".to_owned()));
            if kind == Kind::Active {
                options.push(option("workdir=", &[directories.work(id)]));
                options.push(option("upperdir=", &[directories.files(id)]));
            }
            options.push(option("lowerdir=", lower));
            vec![Mount { r#type: "overlay".to_owned(), source: "overlay".to_owned(), target: String::new(), options }]
        }
    }
}

fn bind(source: PathBuf, access: &str) -> Mount {
    Mount {
        r#type: "bind".to_owned(),
        source: source.to_string_lossy().into_owned(),
        target: String::new(),
        options: vec![access.to_owned(), "rbind".to_owned()],
    }
}

fn option(name: &str, paths: &[PathBuf]) -> String {
    let joined = paths.iter().map(|path| path.as_os_str()).collect::<Vec<_>>().join(&OsString::from(":"));
    format!("{name}{}", joined.to_string_lossy())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::snapshots::{CvmfsLayer, Usage};
    use bundles::image::Digest;
    use std::time::SystemTime;

    fn snapshot(id: u64, kind: Kind, content: Content) -> Snapshot {
        Snapshot {
            id,
            kind,
            parent: None,
            labels: Default::default(),
            created: SystemTime::UNIX_EPOCH,
            updated: SystemTime::UNIX_EPOCH,
            usage: Usage::default(),
            content,
        }
    }

    fn cvmfs(id: u64, name: &str, companions: bool) -> Snapshot {
        let layer = CvmfsLayer {
            repository: "r".to_owned(),
            digest: Digest::sha256(name.as_bytes()),
            layerfs: format!("/cvmfs/r/{name}").into(),
            owner: (0, 0),
            companion_above: companions,
            companion_below: companions,
        };
        snapshot(id, Kind::Committed, Content::Cvmfs(layer))
    }

    fn check(snapshot: &Snapshot, ancestors: &[&Snapshot], expected: &str) {
        let directory = tempfile::tempdir().unwrap();
        let directories = Directories::open(directory.path()).unwrap();
        let found: Vec<String> = mounts(snapshot, ancestors, &directories, true)
            .iter()
            .map(|mount| format!("{} {} {}", mount.r#type, mount.source, mount.options.join(",")))
            .map(|text| text.replace(&*directory.path().to_string_lossy(), ""))
            .collect();
        assert_eq!(found, [expected]);
    }

    #[test]
    fn mounts_are_the_same_as_containerds() {
        let local = |id| snapshot(id, Kind::Committed, Content::Local);
        let active = snapshot(9, Kind::Active, Content::Local);
        let view = snapshot(9, Kind::View, Content::Local);
        let upper = "overlay overlay index=off,workdir=/snapshots/9/work,upperdir=/snapshots/9/fs,lowerdir=";
        check(&active, &[], "bind /snapshots/9/fs rw,rbind");
        check(&view, &[], "bind /snapshots/9/fs ro,rbind");
        check(&view, &[&local(1)], "bind /snapshots/1/fs ro,rbind");
        check(&view, &[&cvmfs(1, "x", false)], "overlay overlay index=off,lowerdir=/l/1a:/l/1");
        check(&view, &[&cvmfs(1, "x", true)], "overlay overlay index=off,lowerdir=/l/1a:/l/1");
        let lower = cvmfs(1, "x", false);
        let upper_layer = cvmfs(2, "y", false);
        check(&view, &[&upper_layer, &lower], "overlay overlay index=off,lowerdir=/l/2a:/l/2:/l/1");
        check(&view, &[&local(2), &local(1)], "overlay overlay index=off,lowerdir=/l/2:/l/1");
        check(&active, &[&local(1)], &format!("{upper}/l/1"));
        check(&active, &[&local(2), &cvmfs(1, "x", true)], &format!("{upper}/l/2:/l/1a:/l/1"));
        check(&active, &[&cvmfs(2, "x", true), &local(1)], &format!("{upper}/l/2a:/l/2:/l/2b:/l/1"));
    }

    #[test]
    fn a_layer_that_occurs_twice_is_mounted_once() {
        let active = snapshot(9, Kind::Active, Content::Local);
        let view = snapshot(9, Kind::View, Content::Local);
        let (top, middle, bottom) = (cvmfs(3, "x", true), cvmfs(2, "y", false), cvmfs(1, "x", true));
        let upper = "overlay overlay index=off,workdir=/snapshots/9/work,upperdir=/snapshots/9/fs,lowerdir=";
        check(&active, &[&top, &middle, &bottom], &format!("{upper}/l/3a:/l/3:/l/3b:/l/2"));
        let (top, bottom) = (cvmfs(2, "x", false), cvmfs(1, "x", false));
        check(&view, &[&top, &bottom], "overlay overlay index=off,lowerdir=/l/2a:/l/2");
    }

    #[test]
    fn mount_options_of_127_layers_fit_into_a_page() {
        let directory = tempfile::tempdir().unwrap();
        let directories = Directories::open(directory.path()).unwrap();
        let layers: Vec<_> = (0..127).map(|id| cvmfs(100_000 + id, &id.to_string(), true)).collect();
        let lower = lower_directories(&layers.iter().collect::<Vec<_>>(), &directories);
        assert_eq!(lower.len(), 127 * 3 - 1);
        let names: usize = lower.iter().map(|path| path.file_name().unwrap().len() + 1).sum();
        assert!(lower.iter().all(|path| path.parent() == lower[0].parent()));
        assert!(names < 4096 - 512, "{names} bytes");
    }
}
