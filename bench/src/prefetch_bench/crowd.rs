//! Many simultaneous requests for one image.

use std::time::Duration;

use anyhow::Result;
use testbed::site::{Site, label};

use super::bench_node::BenchNode;
use super::daemon::{by_name, finished, prefetch, with_daemon};
use super::workload::Workload;
use crate::condition::Condition;

const CLIENTS: usize = 50;
const TIMEOUT: Duration = Duration::from_secs(600);

/// The bytes that the server sends for 50 requests, as a multiple of those for one.
pub(super) async fn measure(site: &Site, workload: &Workload) -> Result<f64> {
    let condition = Condition::latency(0);
    let node = BenchNode::start(site, &condition, with_daemon(site, &[]))?;
    let single = prefetch(site, &node, by_name(&workload.packed)).await?.bytes();
    drop(node);
    let node = BenchNode::start(site, &condition, with_daemon(site, &[]))?;
    site.origin.take_requests();
    let request = || {
        // Each client has its own connection.
        let daemon = node.daemon();
        let node = &node;
        async move {
            let id = daemon.submit(by_name(&workload.packed)).await?;
            finished(node, &daemon.wait(id, TIMEOUT).await?)
        }
    };
    futures::future::try_join_all((0..CLIENTS).map(|_| request())).await?;
    let all = site.origin.totals(label::DAEMON).bytes;
    Ok(all as f64 / single as f64)
}
