//! One measurement: containers from pull to end on one node, and what that took.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use prefetcher::api::RequestState;
use testbed::node::Node;
use testbed::process::{Daemon, processor_time};
use testbed::site::{Site, label};
use tracer_ebpf::cri::pod::Outcome;

use super::cells::{Cell, Mode};
use super::options::USUAL_MS;
use super::prepare::Prepared;
use super::ready::{answered, first_output, free_port};
use super::records::{Cores, Run, Wire};
use super::workloads::Ready;
use crate::condition::Condition;
use crate::statistics::peak_per_second;

/// A container that has ended was ready, or never will be.
const LATE: Duration = Duration::from_secs(2);

/// Measures a cell once, on a node that is as the cell's mode wants it.
pub(super) async fn measure(
    site: &Site,
    node: &Node,
    prepared: &Prepared,
    cell: &Cell,
    repetition: usize,
) -> Result<Run> {
    if cell.mode == Mode::Native {
        node.client.arm(&prepared.native(node.client.mount_point())?)?;
    }
    // What was written before is not to be written meanwhile.
    nix::unistd::sync();
    let (cores, registry_bytes) = (cores(node)?, site.registry_bytes());
    site.origin.take_requests();
    let (begun, on_origins_clock) = (Instant::now(), site.origin.now());
    let started = match cell.containers {
        1 => vec![start(node, prepared, true, begun).await?],
        // The kubelet pulls an image that is not there once.
        count => {
            node.pull(&prepared.reference).await?;
            let pull = begun.elapsed();
            let mut all =
                futures::future::try_join_all((0..count).map(|_| start(node, prepared, false, begun))).await?;
            all.iter_mut().for_each(|one| one.outcome.timings.pull = pull);
            all
        }
    };
    let all = begun.elapsed();
    if node.daemon.is_some() {
        prefetched(node).await?;
    }
    let requests = site.origin.take_requests();
    let at = |time: Duration| (time.saturating_sub(on_origins_clock).as_secs_f64() * 1e3).round() / 1e3;
    let requests_at: Vec<f64> = requests.iter().map(|request| at(request.started)).collect();
    let most = |of: fn(&Started) -> Duration| started.iter().map(of).max().unwrap_or_default().as_secs_f64();
    let whole = if cell.containers == 1 { most(|one| one.outcome.timings.total()) } else { all.as_secs_f64() };
    let is_plotted = repetition == 1 && cell.containers == 1 && cell.condition == Condition::of(USUAL_MS);
    Ok(Run {
        cell: cell.clone(),
        repetition,
        pull_s: most(|one| one.outcome.timings.pull),
        sandbox_s: most(|one| one.outcome.timings.sandbox),
        create_s: most(|one| one.outcome.timings.create + one.outcome.timings.start),
        ready_s: most(|one| one.ready),
        run_s: most(|one| one.outcome.timings.run),
        whole_s: whole,
        client: Wire::of(&requests, label::CLIENT),
        daemon: Wire::of(&requests, label::DAEMON),
        registry_bytes: site.registry_bytes() - registry_bytes,
        peak_requests: peak_per_second(&requests_at),
        requests_at: if is_plotted { requests_at } else { Vec::new() },
        cores: self::cores(node)? - cores,
    })
}

/// A container that has ended.
struct Started {
    outcome: Outcome,
    ready: Duration,
}

async fn start(node: &Node, prepared: &Prepared, pull: bool, begun: Instant) -> Result<Started> {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let port = free_port()?;
    let command = prepared.workload.command(port);
    let mut pod = node.pod(&prepared.reference, &command.iter().map(String::as_str).collect::<Vec<_>>())?;
    pod.pull = pull;
    pod.container.log_path = format!("run-{}.log", COUNT.fetch_add(1, Ordering::Relaxed));
    let log = pod.sandbox.log_directory.join(&pod.container.log_path);
    let by = prepared.workload.ready;
    let mut ready = tokio::spawn(async move {
        match by {
            Ready::Output => first_output(&log).await,
            Ready::Port => answered(port).await,
        }
        begun.elapsed()
    });
    let outcome = node.run_pod(&pod).await;
    let seen = tokio::time::timeout(LATE, &mut ready).await;
    ready.abort();
    let outcome = outcome?;
    ensure!(outcome.exit.code == 0, "{command:?} failed: {outcome:?}");
    let ready = seen.with_context(|| format!("{command:?} ended and was never ready: {outcome:?}"))??;
    Ok(Started { ready: ready.saturating_sub(outcome.timings.sandbox), outcome })
}

/// Waits for the daemon, and sees that it did what it was asked for.
async fn prefetched(node: &Node) -> Result<()> {
    for request in node.prefetched().await? {
        ensure!(request.state() == RequestState::Done, "a prefetch ended with {request:?}");
    }
    Ok(())
}

fn cores(node: &Node) -> Result<Cores> {
    let of = |pid: Option<u32>| anyhow::Ok(pid.map(processor_time).transpose()?.unwrap_or_default().as_secs_f64());
    Ok(Cores {
        client_s: of(Some(node.client.pid()))?,
        daemon_s: of(node.daemon.as_ref().map(Daemon::pid))?,
        snapshotter_s: of(node.snapshotter.as_ref().map(Daemon::pid))?,
        containerd_s: of(node.containerd.pid())?,
    })
}
