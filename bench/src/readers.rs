//! Processes that read files of the mount, some at a time.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// What is read at once.
const PIECE: usize = 128 << 10;

/// How long `readers` take to read all `files` below `mount`, each the next one that none of the others has taken. Blocks.
pub(crate) fn read_all(mount: &Path, files: &[PathBuf], readers: usize) -> Result<Duration> {
    each(mount, files, readers, read)
}

/// The same, but files are opened only, which is enough to have the client fetch them.
pub(crate) fn open_all(mount: &Path, files: &[PathBuf], readers: usize) -> Result<Duration> {
    each(mount, files, readers, |path| open(path).map(drop))
}

fn each(mount: &Path, files: &[PathBuf], readers: usize, what: fn(&Path) -> Result<()>) -> Result<Duration> {
    let (next, begun) = (AtomicUsize::new(0), Instant::now());
    std::thread::scope(|scope| {
        let reader = || {
            while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                what(&mount.join(file))?;
            }
            anyhow::Ok(())
        };
        let readers: Vec<_> = (0..readers).map(|_| scope.spawn(reader)).collect();
        readers.into_iter().try_for_each(|one| one.join().map_err(|_| anyhow::anyhow!("a reader panicked"))?)
    })?;
    Ok(begun.elapsed())
}

fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("cannot open {}", path.display()))
}

fn read(path: &Path) -> Result<()> {
    let (mut file, mut piece) = (open(path)?, vec![0; PIECE]);
    while file.read(&mut piece).with_context(|| format!("cannot read {}", path.display()))? > 0 {}
    Ok(())
}
