//! A fleet: many nodes of a site that start the same image at the same moment, behind one squid with an empty cache.
//!
//! A node consists of the mounted client, the prefetch daemon, its own cache in memory and, instead of a container, one reader
//! that reads the container's files sequentially. There is no containerd: that many do not fit on one machine. All nodes share
//! the cores of the machine, which limits the request rate.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use api::proto::{self, RequestState};
use serde::{Deserialize, Serialize};
use testbed::namespace::MemoryDirectory;
use testbed::node::{Cvmfs, CvmfsSpec, daemon_client};
use testbed::readers::read_all;
use testbed::site::{Site, label};
use testbed::web::Squid;

use super::cells::Mode;
use super::options::USUAL_MS;
use super::prepare::Prepared;
use super::traffic::Traffic;
use crate::condition::Condition;
use crate::statistics::peak_per_second;

const LONG: Duration = Duration::from_secs(600);

/// The result of a fleet. Part of the JSON records.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Fleet {
    pub(super) nodes: usize,
    pub(super) workload: String,
    pub(super) mode: Mode,
    pub(super) condition: Condition,
    /// Time until the last reader had finished.
    pub(super) whole_s: f64,
    /// Time of the median node.
    pub(super) median_s: f64,
    /// Requests at the squid, by its log.
    pub(super) squid_requests: usize,
    pub(super) squid_peak: usize,
    /// Requests that the squid answered in each second.
    pub(super) squid_by_second: Vec<usize>,
    pub(super) origin: Traffic,
    pub(super) origin_peak: usize,
}

/// One node. Its parts stop in the order of the fields.
struct FleetNode {
    cvmfs: Cvmfs,
    memory: MemoryDirectory,
}

/// Measures a fleet, with or without prefetch.
pub(super) async fn measure(site: &mut Site, prepared: &Prepared, nodes: usize, mode: Mode) -> Result<Fleet> {
    let condition = Condition { squid: true, ..Condition::latency(USUAL_MS) };
    site.set_link(condition.link());
    let name = format!("fleet-{}", mode.name());
    let squid = Squid::start(&site.directory.subdirectory(&format!("{name}-squid"))?)?;
    site.set_squid(Some(squid));
    let daemon = mode == Mode::Prefetch;
    let fleet = start(site, nodes, daemon)?;
    let squid = site.squid().context("there is a squid")?;
    let before = squid.access_log().lines().count();
    site.origin.take_requests();
    let begin = Instant::now();
    let readers: Vec<_> = fleet
        .iter()
        .map(|node| {
            let (mount, files) = (node.cvmfs.client.mount_point().to_owned(), prepared.files().to_vec());
            std::thread::spawn(move || read(&mount, &files, begin))
        })
        .collect();
    if daemon {
        futures::future::try_join_all(fleet.iter().map(|node| prefetch(node, prepared))).await?;
    }
    let mut durations = Vec::new();
    for reader in readers {
        let joined = tokio::task::spawn_blocking(move || reader.join()).await?;
        durations.push(joined.map_err(|_| anyhow::anyhow!("a reader panicked"))??.as_secs_f64());
    }
    durations.sort_by(f64::total_cmp);
    let log = squid.access_log();
    let at = times(log.lines().skip(before))?;
    let requests = site.origin.take_requests();
    let on_origin: Vec<f64> = requests.iter().map(|request| request.started.as_secs_f64()).collect();
    let client = Traffic::count(&requests, label::CLIENT);
    let daemon = Traffic::count(&requests, label::DAEMON);
    drop(fleet);
    site.set_squid(None);
    Ok(Fleet {
        nodes,
        workload: prepared.workload.name.to_owned(),
        mode,
        condition,
        whole_s: durations.last().copied().unwrap_or_default(),
        median_s: durations.get(durations.len() / 2).copied().unwrap_or_default(),
        squid_requests: at.len(),
        squid_peak: peak_per_second(&at),
        squid_by_second: by_second(&at),
        origin: client + daemon,
        origin_peak: peak_per_second(&on_origin),
    })
}

fn start(site: &Site, nodes: usize, daemon: bool) -> Result<Vec<FleetNode>> {
    let proxy = site.proxy();
    (0..nodes)
        .map(|number| {
            let memory = MemoryDirectory::new(&format!("fleet-{number}"))?;
            let spec = CvmfsSpec { daemon, proxy: proxy.clone(), ..CvmfsSpec::default() };
            let cvmfs = Cvmfs::start(site, memory.directory(), &spec)?;
            Ok(FleetNode { cvmfs, memory })
        })
        .collect()
}

fn read(mount: &std::path::Path, files: &[PathBuf], begin: Instant) -> Result<Duration> {
    read_all(mount, files, 1)?;
    Ok(begin.elapsed())
}

/// Sends the node's daemon the request that its snapshotter would send, and waits for its end.
async fn prefetch(node: &FleetNode, prepared: &Prepared) -> Result<()> {
    let daemon = daemon_client(node.memory.directory().path());
    let image = Some(proto::Image { chain_id: prepared.chain_id(), ..proto::Image::default() });
    let id = daemon.submit(proto::PrefetchRequest { image, ..proto::PrefetchRequest::default() }).await?;
    let status = daemon.wait(id, LONG).await?;
    ensure!(status.state() == RequestState::Done, "a prefetch ended with {status:?}");
    Ok(())
}

/// Times of the responses in seconds since 1970: the first field of each line.
fn times<'a>(log: impl Iterator<Item = &'a str>) -> Result<Vec<f64>> {
    let time = |line: &str| line.split(' ').next().unwrap_or_default().parse::<f64>();
    log.map(|line| time(line).with_context(|| format!("a line of squid's log has no time: {line:?}"))).collect()
}

/// How many of these times, in seconds, fall into each second since the first.
fn by_second(at: &[f64]) -> Vec<usize> {
    let first = at.iter().copied().fold(f64::INFINITY, f64::min);
    let mut counted = BTreeMap::<usize, usize>::new();
    for time in at {
        *counted.entry((time - first) as usize).or_default() += 1;
    }
    let seconds = counted.last_key_value().map_or(0, |(last, _)| last + 1);
    (0..seconds).map(|second| counted.get(&second).copied().unwrap_or_default()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn times_are_read_from_squids_log() {
        let log = "1700000000.250     12 127.0.0.1 TCP_MISS/200 700 GET http://x/y - HIER_DIRECT/127.0.0.1 -\n\
                   1700000003.000      0 127.0.0.1 TCP_MEM_HIT/200 70 GET http://x/y - HIER_NONE/- -\n\
                   1700000000.000      0 127.0.0.1 TCP_MEM_HIT/200 70 GET http://x/z - HIER_NONE/- -";
        let at = times(log.lines()).unwrap();
        assert_eq!(at, [1_700_000_000.25, 1_700_000_003.0, 1_700_000_000.0]);
        assert_eq!(by_second(&at), [2, 0, 0, 1]);
        assert!(by_second(&[]).is_empty());
        assert!(times(["nonsense"].into_iter()).is_err());
    }
}
