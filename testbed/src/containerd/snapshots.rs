//! The root file system of a pulled image, mounted as containerd does it for a container.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use containerd_client::services::v1::snapshots::snapshots_client::SnapshotsClient;
use containerd_client::services::v1::snapshots::{PrepareSnapshotRequest, ViewSnapshotRequest};
use containerd_client::types::Mount;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tonic::Request;

use super::Containerd;

/// From this length on, containerd shortens mount options. Source: `mount_linux.go`.
const SHORTENED_FROM: usize = 4096 - 512;

/// A mounted snapshot; unmounted when dropped. The snapshot stays.
#[derive(Debug)]
pub struct MountedSnapshot(PathBuf);

impl MountedSnapshot {
    /// The mount point.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for MountedSnapshot {
    fn drop(&mut self) {
        if let Err(error) = umount2(&self.0, MntFlags::MNT_DETACH) {
            tracing::warn!(%error, path = %self.0.display(), "not unmounted");
        }
    }
}

impl Containerd {
    /// Creates the snapshot `key` on the image with this chain ID and mounts it at `target`, which is created.
    pub async fn mount_image(
        &self,
        snapshotter: &str,
        chain_id: &str,
        key: &str,
        target: &Path,
        writable: bool,
    ) -> Result<MountedSnapshot> {
        let channel = containerd_client::connect(self.socket()).await?;
        let mut client = SnapshotsClient::new(channel);
        let (snapshotter, key, parent) = (snapshotter.to_owned(), key.to_owned(), chain_id.to_owned());
        // Nothing else refers to it, so it must be protected from garbage collection.
        let labels = [("containerd.io/gc.root".to_owned(), "test".to_owned())].into();
        let mounts = if writable {
            let request = PrepareSnapshotRequest { snapshotter, key, parent, labels };
            client.prepare(in_namespace(request)).await?.into_inner().mounts
        } else {
            let request = ViewSnapshotRequest { snapshotter, key, parent, labels };
            client.view(in_namespace(request)).await?.into_inner().mounts
        };
        let [only] = mounts.as_slice() else { bail!("expected one mount, got {mounts:?}") };
        std::fs::create_dir_all(target)?;
        mount_snapshot(only, target).with_context(|| format!("cannot mount {only:?}"))?;
        Ok(MountedSnapshot(target.to_owned()))
    }
}

/// A request to containerd in CRI's namespace.
pub fn in_namespace<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("containerd-namespace", tonic::metadata::MetadataValue::from_static("k8s.io"));
    request
}

fn mount_snapshot(spec: &Mount, target: &Path) -> Result<()> {
    let has = |option: &str| spec.options.iter().any(|other| other == option);
    if spec.r#type == "bind" {
        let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
        mount(Some(spec.source.as_str()), target, None::<&str>, flags, None::<&str>)?;
        if has("ro") {
            let flags = flags | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
            mount(Some(spec.source.as_str()), target, None::<&str>, flags, None::<&str>)?;
        }
        return Ok(());
    }
    let mut options = spec.options.clone();
    let mut directory = None;
    if options.iter().map(String::len).sum::<usize>() >= SHORTENED_FROM {
        let lower = options.iter_mut().find(|option| option.starts_with("lowerdir=")).context("no lowerdir")?;
        let (common, names) = shorten(lower)?;
        (*lower, directory) = (names, Some(common));
    }
    let (kind, target, options) = (spec.r#type.clone(), target.to_owned(), options.join(","));
    let thread = std::thread::spawn(move || -> Result<()> {
        if let Some(directory) = directory {
            // From here on this thread has its own working directory.
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS)?;
            std::env::set_current_dir(directory)?;
        }
        Ok(mount(Some("overlay"), &target, Some(kind.as_str()), MsFlags::empty(), Some(options.as_str()))?)
    });
    thread.join().map_err(|_| anyhow::anyhow!("the mounting thread panicked"))?
}

/// The common parent of all lower directories, and the option with paths relative to it.
fn shorten(option: &str) -> Result<(PathBuf, String)> {
    let paths: Vec<&str> = option.trim_start_matches("lowerdir=").split(':').collect();
    let mut common = Path::new(paths.first().context("no lower directory")?).parent().context("a root")?;
    while !paths.iter().all(|path| Path::new(path).starts_with(common)) {
        common = common.parent().context("nothing in common")?;
    }
    let names: Result<Vec<_>, _> = paths.iter().map(|path| Path::new(path).strip_prefix(common)).collect();
    let names: Vec<_> = names?.iter().map(|name| name.to_string_lossy()).collect();
    Ok((common.to_owned(), format!("lowerdir={}", names.join(":"))))
}
