//! Threads that read files through the mount, several at a time.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Bytes of one read call.
const BUFFER: usize = 128 << 10;

/// Reads all `files` below `mount` with `readers` threads; each takes the next unread file; returns how long it took.
/// Blocks.
pub fn read_all(mount: &Path, files: &[PathBuf], readers: usize) -> Result<Duration> {
    each(mount, files, readers, read)
}

/// Opens the files without reading them, which is enough to make the client fetch them.
pub fn open_all(mount: &Path, files: &[PathBuf], readers: usize) -> Result<Duration> {
    each(mount, files, readers, |path| open(path).map(drop))
}

fn each(mount: &Path, files: &[PathBuf], readers: usize, action: fn(&Path) -> Result<()>) -> Result<Duration> {
    let next = AtomicUsize::new(0);
    let started = Instant::now();
    std::thread::scope(|scope| {
        let reader = || {
            while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                action(&mount.join(file))?;
            }
            anyhow::Ok(())
        };
        let readers: Vec<_> = (0..readers).map(|_| scope.spawn(reader)).collect();
        readers.into_iter().try_for_each(|reader| reader.join().map_err(|_| anyhow::anyhow!("a reader panicked"))?)
    })?;
    Ok(started.elapsed())
}

fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("cannot open {}", path.display()))
}

fn read(path: &Path) -> Result<()> {
    let mut file = open(path)?;
    let mut buffer = vec![0; BUFFER];
    while file.read(&mut buffer).with_context(|| format!("cannot read {}", path.display()))? > 0 {}
    Ok(())
}
