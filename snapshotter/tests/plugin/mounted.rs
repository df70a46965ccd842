//! Mounts that are unmounted when dropped.

use std::fs;
use std::path::{Path, PathBuf};

use containerd_snapshots::api::types::Mount;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// A mounted directory.
pub(crate) struct Mounted(PathBuf);

impl Mounted {
    /// Mounts a snapshot at `point` as containerd does. Creates `point`.
    pub(crate) fn new(point: PathBuf, mounts: &[Mount]) -> Self {
        let [mount_spec] = mounts else { panic!("{mounts:?}") };
        fs::create_dir_all(&point).unwrap();
        let source = Path::new(&mount_spec.source);
        let is = |option: &str| mount_spec.options.iter().any(|other| other == option);
        if mount_spec.r#type == "bind" {
            assert!(is("rbind"));
            let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
            mount(Some(source), &point, None::<&str>, flags, None::<&str>).unwrap();
            if is("ro") {
                let flags = flags | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
                mount(Some(source), &point, None::<&str>, flags, None::<&str>).unwrap();
            }
        } else {
            mount_overlay(&point, &mount_spec.options);
        }
        Self(point)
    }

    /// A FUSE mount that never answers: calls on it wait until the returned file is closed.
    pub(crate) fn hanging(point: PathBuf) -> (Self, fs::File) {
        use std::os::fd::AsRawFd;
        fs::create_dir_all(&point).unwrap();
        let device = fs::File::options().read(true).write(true).open("/dev/fuse").unwrap();
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
        mount(Some("hanging"), &point, Some("fuse"), MsFlags::empty(), Some(options.as_str())).unwrap();
        (Self(point), device)
    }

    /// An empty file system of this size.
    pub(crate) fn tmpfs(point: PathBuf, size: &str) -> Self {
        let options = format!("size={size}");
        mount(Some("tmpfs"), &point, Some("tmpfs"), MsFlags::empty(), Some(options.as_str())).unwrap();
        Self(point)
    }

    /// All files with their contents, and all directories.
    pub(crate) fn tree(&self) -> Vec<String> {
        let mut found = Vec::new();
        read(&self.0, Path::new(""), &mut found);
        found.sort();
        found
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

/// Mounts as containerd does: options that are too long for the kernel name the lower directories relative to their common parent.
fn mount_overlay(point: &Path, options: &[String]) {
    let mut options = options.to_vec();
    let mut directory = None;
    if options.iter().map(String::len).sum::<usize>() >= 4096 - 512 {
        let lower = options.iter_mut().find(|option| option.starts_with("lowerdir=")).unwrap();
        let paths: Vec<_> = lower["lowerdir=".len()..].split(':').map(PathBuf::from).collect();
        let common = paths[0].parent().unwrap().to_owned();
        let names: Vec<_> = paths.iter().map(|path| path.strip_prefix(&common).unwrap().to_str().unwrap()).collect();
        *lower = format!("lowerdir={}", names.join(":"));
        directory = Some(common);
    }
    let (point, options) = (point.to_owned(), options.join(","));
    let thread = std::thread::spawn(move || {
        if let Some(directory) = directory {
            // Gives this thread its own working directory.
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS).unwrap();
            std::env::set_current_dir(directory).unwrap();
        }
        mount(Some("overlay"), &point, Some("overlay"), MsFlags::empty(), Some(options.as_str()))
            .unwrap_or_else(|error| panic!("{error}: {options}"));
    });
    thread.join().unwrap();
}

fn read(root: &Path, below: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(root.join(below)).unwrap() {
        let entry = entry.unwrap();
        let path = below.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            found.push(format!("{}/", path.display()));
            read(root, &path, found);
        } else {
            found.push(format!("{}={}", path.display(), fs::read_to_string(root.join(&path)).unwrap()));
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        umount2(&self.0, MntFlags::MNT_DETACH).unwrap();
    }
}
