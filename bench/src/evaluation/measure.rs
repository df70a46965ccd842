//! One measurement: containers on one node from pull to end, with times and requests.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use api::proto::RequestState;
use testbed::node::Node;
use testbed::process::{Daemon, processor_time};
use testbed::site::{Site, label};
use tracer_ebpf::cri::pod::Outcome;

use super::cells::{Cell, Mode};
use super::options::USUAL_MS;
use super::prepare::Prepared;
use super::ready::{first_output, free_port, wait_for_http};
use super::records::{Cores, Run};
use super::traffic::Traffic;
use super::workloads::Ready;
use crate::condition::Condition;
use crate::statistics::peak_per_second;

/// How long readiness may be noticed after the container has exited.
const LATE: Duration = Duration::from_secs(2);

/// Measures a cell once, on a node prepared for the cell's mode.
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
    // Earlier writes must not reach the disk during the measurement.
    nix::unistd::sync();
    let (cores, registry_bytes) = (cores(node)?, site.registry_bytes());
    site.origin.take_requests();
    let begin = Instant::now();
    let origin_time = site.origin.now();
    let containers = match cell.containers {
        1 => vec![start(node, prepared, true, begin).await?],
        // The kubelet pulls a missing image once.
        count => {
            node.pull(&prepared.reference).await?;
            let pull = begin.elapsed();
            let mut all =
                futures::future::try_join_all((0..count).map(|_| start(node, prepared, false, begin))).await?;
            all.iter_mut().for_each(|container| container.outcome.timings.pull = pull);
            all
        }
    };
    let total = begin.elapsed();
    if node.daemon.is_some() {
        check_prefetch(node, &prepared.reference).await?;
    }
    let requests = site.origin.take_requests();
    let at = |time: Duration| (time.saturating_sub(origin_time).as_secs_f64() * 1e3).round() / 1e3;
    let requests_at: Vec<f64> = requests.iter().map(|request| at(request.started)).collect();
    let longest =
        |time: fn(&Container) -> Duration| containers.iter().map(time).max().unwrap_or_default().as_secs_f64();
    let whole_s =
        if cell.containers == 1 { longest(|container| container.outcome.timings.total()) } else { total.as_secs_f64() };
    let is_plotted = repetition == 1 && cell.containers == 1 && cell.condition == Condition::latency(USUAL_MS);
    Ok(Run {
        cell: cell.clone(),
        repetition,
        pull_s: longest(|container| container.outcome.timings.pull),
        sandbox_s: longest(|container| container.outcome.timings.sandbox),
        create_s: longest(|container| container.outcome.timings.create + container.outcome.timings.start),
        ready_s: longest(|container| container.ready),
        run_s: longest(|container| container.outcome.timings.run),
        whole_s,
        client: Traffic::count(&requests, label::CLIENT),
        daemon: Traffic::count(&requests, label::DAEMON),
        registry_bytes: site.registry_bytes() - registry_bytes,
        peak_requests: peak_per_second(&requests_at),
        requests_at: if is_plotted { requests_at } else { Vec::new() },
        cores: self::cores(node)? - cores,
    })
}

/// A container that has exited.
struct Container {
    outcome: Outcome,
    ready: Duration,
}

async fn start(node: &Node, prepared: &Prepared, pull: bool, begin: Instant) -> Result<Container> {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let port = free_port()?;
    let command = prepared.workload.command(port);
    let mut pod = node.pod(&prepared.reference, &command.iter().map(String::as_str).collect::<Vec<_>>())?;
    pod.pull = pull;
    pod.container.log_path = format!("run-{}.log", COUNT.fetch_add(1, Ordering::Relaxed));
    let log = pod.sandbox.log_directory.join(&pod.container.log_path);
    let readiness = prepared.workload.ready;
    let mut ready = tokio::spawn(async move {
        match readiness {
            Ready::Output => first_output(&log).await,
            Ready::Port => wait_for_http(port).await,
        }
        begin.elapsed()
    });
    let outcome = node.run_pod(&pod).await;
    let noticed = tokio::time::timeout(LATE, &mut ready).await;
    ready.abort();
    let outcome = outcome?;
    ensure!(outcome.exit.code == 0, "{command:?} failed: {outcome:?}");
    let ready = noticed.with_context(|| format!("{command:?} exited and was never ready: {outcome:?}"))??;
    Ok(Container { ready: ready.saturating_sub(outcome.timings.sandbox), outcome })
}

/// Waits for the prefetch requests and checks that all succeeded.
async fn check_prefetch(node: &Node, reference: &str) -> Result<()> {
    for request in node.wait_for_prefetch(reference).await? {
        ensure!(request.state() == RequestState::Done, "a prefetch ended with {request:?}");
    }
    Ok(())
}

fn cores(node: &Node) -> Result<Cores> {
    let seconds = |pid: Option<u32>| anyhow::Ok(pid.map(processor_time).transpose()?.unwrap_or_default().as_secs_f64());
    Ok(Cores {
        client_s: seconds(Some(node.client.pid()))?,
        daemon_s: seconds(node.daemon.as_ref().map(Daemon::pid))?,
        snapshotter_s: seconds(node.snapshotter.as_ref().map(Daemon::pid))?,
        containerd_s: seconds(node.containerd.pid())?,
    })
}
