//! Memory of the daemon.

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

use super::bench_node::BenchNode;
use super::daemon::{by_content, prefetch, with_daemon};
use super::options::Options;
use super::workload::Workload;
use crate::condition::Condition;

/// Size of a large object.
const LARGE: usize = 128 << 20;
/// Pause after the start, before idle memory is read.
const PAUSE: Duration = Duration::from_secs(1);

/// Memory in MiB.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub(super) struct Memory {
    /// After the start.
    pub(super) idle: f64,
    /// Anonymous part of it, without pages of the program file and its libraries.
    pub(super) idle_anonymous: f64,
    /// Peak while a bundle was fetched.
    pub(super) peak: f64,
    /// Decompressed size of that bundle.
    pub(super) bundle: f64,
}

pub(super) async fn measure(site: &Site, workload: &Workload, options: &Options) -> Result<Memory> {
    let large = if options.quick { 3 } else { 15 };
    eprintln!("memory: storing {large} large objects ...");
    let (bundle, files) = with_large(site, &workload.packed, large)?;
    let node = BenchNode::start(site, &Condition::latency(0), with_daemon(site, &[]))?;
    tokio::time::sleep(PAUSE).await;
    let pid = node.daemon_pid()?;
    let (idle, idle_anonymous) = (mebibytes(pid, "VmRSS")?, mebibytes(pid, "RssAnon")?);
    prefetch(site, &node, by_content(&bundle)?).await?;
    let peak = mebibytes(pid, "VmHWM")?;
    files.iter().try_for_each(std::fs::remove_file)?;
    Ok(Memory { idle, idle_anonymous, peak, bundle: bundle.bytes().1 as f64 / f64::from(1 << 20) })
}

/// Adds incompressible large objects to the bundle and the server; returns the files on the server.
fn with_large(site: &Site, bundle: &Bundle, count: u64) -> Result<(Bundle, Vec<PathBuf>)> {
    let mut bundle = bundle.clone();
    let mut content = vec![0; LARGE];
    let mut files = Vec::new();
    for number in 0..count {
        StdRng::seed_from_u64(number).fill_bytes(&mut content);
        // Compression would take long without effect.
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
