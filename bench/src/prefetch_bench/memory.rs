//! What the daemon takes of a node's memory.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use bundles::bundle::{Bundle, BundleObject};
use bundles::object::{ContentHash, ObjectKind};
use bundles::path::RootPath;
use flate2::Compression;
use flate2::write::ZlibEncoder;
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use testbed::site::Site;

use super::daemon::{by_content, prefetch, with_daemon};
use super::options::Options;
use super::place::Place;
use super::workload::Workload;
use crate::condition::Condition;

/// Bytes of a large object.
const LARGE: usize = 128 << 20;
/// After its start a daemon is left in peace so long.
const REST: Duration = Duration::from_secs(1);

/// In MiB.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub(super) struct Memory {
    /// After the start.
    pub(super) idle: f64,
    /// Of that, what is not pages of the program's file and its libraries.
    pub(super) idle_anonymous: f64,
    /// The most while a bundle came.
    pub(super) peak: f64,
    /// Of that bundle, decompressed.
    pub(super) bundle: f64,
}

pub(super) async fn measure(site: &Site, workload: &Workload, options: &Options) -> Result<Memory> {
    let large = if options.quick { 3 } else { 15 };
    eprintln!("memory: storing {large} large objects ...");
    let (bundle, files) = with_large(site, &workload.packed, large)?;
    let place = Place::start(site, &Condition::of(0), with_daemon(site, &[]))?;
    tokio::time::sleep(REST).await;
    let pid = place.daemon_pid()?;
    let (idle, idle_anonymous) = (mebibytes(pid, "VmRSS")?, mebibytes(pid, "RssAnon")?);
    prefetch(site, &place, by_content(&bundle)?).await?;
    let peak = mebibytes(pid, "VmHWM")?;
    files.iter().try_for_each(std::fs::remove_file)?;
    Ok(Memory { idle, idle_anonymous, peak, bundle: bundle.bytes().1 as f64 / f64::from(1 << 20) })
}

/// The bundle with further objects that cannot be compressed, and where the server has these.
fn with_large(site: &Site, bundle: &Bundle, count: u64) -> Result<(Bundle, Vec<PathBuf>)> {
    let mut bundle = bundle.clone();
    let (mut content, mut files) = (vec![0; LARGE], Vec::new());
    for number in 0..count {
        StdRng::seed_from_u64(number).fill_bytes(&mut content);
        // Compressing it would take long and make nothing of it.
        let mut encoder = ZlibEncoder::new(Vec::with_capacity(LARGE + (1 << 20)), Compression::none());
        encoder.write_all(&content)?;
        let stored = encoder.finish()?;
        let (hash, stored_size) = (ContentHash::sha1_of(&stored), stored.len() as u64);
        let file = site.repository.put_stored(&stored, ObjectKind::File)?;
        let path = RootPath::new(format!("/large/{number}"))?;
        bundle.objects.push(BundleObject { stored_size, ..BundleObject::file(hash, LARGE as u64, path) });
        files.push(file);
    }
    Ok((bundle, files))
}

fn mebibytes(pid: u32, field: &str) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let value =
        status.lines().find_map(|line| line.strip_prefix(field)?.trim_start_matches(':').trim().strip_suffix(" kB"));
    Ok(value.with_context(|| format!("no {field} of process {pid}"))?.trim().parse::<f64>()? / 1024.0)
}
