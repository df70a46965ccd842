//! The client's process: mounts and serves until the unmount.

use std::io::ErrorKind;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use fuser::{Config, MountOption, Session, SessionACL};

use super::cache::Cache;
use super::control;
use super::download::Downloader;
use super::filesystem::{Mounted, MountedFilesystem};
use super::objects::Objects;
use super::root::read_master_key;
use super::xattr::MountFacts;

/// The stock client's default number of FUSE workers.
const WORKERS: usize = 10;

/// The command line of the client's process.
#[derive(Debug, clap::Parser)]
pub struct ServeOptions {
    /// Mount point
    #[arg(long)]
    pub mount: PathBuf,
    /// Cache directory
    #[arg(long)]
    pub cache: PathBuf,
    /// URL of the repository: http://host/cvmfs/<name>
    #[arg(long)]
    pub url: String,
    /// URL of a forward proxy
    #[arg(long)]
    pub proxy: Option<String>,
    /// The repository's public master key (PEM)
    #[arg(long)]
    pub public_key: PathBuf,
    /// Path of the control socket
    #[arg(long)]
    pub control: PathBuf,
}

/// Mounts and serves; returns when unmounted.
pub fn serve(options: &ServeOptions) -> Result<()> {
    let key = std::fs::read_to_string(&options.public_key)
        .with_context(|| format!("cannot read the master key {}", options.public_key.display()))?;
    let cache = Cache::open(&options.cache)
        .with_context(|| format!("cannot use the cache directory {}", options.cache.display()))?;
    let downloader = Downloader::new(&options.url, options.proxy.as_deref())?;
    let facts = MountFacts {
        url: options.url.clone(),
        proxy: options.proxy.clone(),
        public_key: options.public_key.display().to_string(),
    };
    let objects = Arc::new(Objects::new(cache, downloader));
    let mounted = Arc::new(Mounted::new(objects, read_master_key(&key)?, facts)?);

    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::RO,
        MountOption::NoDev,
        MountOption::Suid,
        MountOption::DefaultPermissions,
        MountOption::FSName("cvmfs2".to_owned()),
    ];
    config.acl = SessionACL::All;
    config.n_threads = Some(WORKERS);
    let session = Session::new(MountedFilesystem(Arc::clone(&mounted)), &options.mount, &config)
        .with_context(|| format!("cannot mount on {}: are you root, is there /dev/fuse?", options.mount.display()))?;
    let session = session.spawn()?;
    let notifier = session.notifier();

    match std::fs::remove_file(&options.control) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let listener = UnixListener::bind(&options.control)
        .with_context(|| format!("cannot make the control socket {}", options.control.display()))?;
    std::thread::spawn(move || control::serve(&listener, &mounted, &notifier));
    Ok(session.join()?)
}
