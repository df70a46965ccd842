//! One measured start of the Python image's program, for the demo and `bench-pod`.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use testbed::images::PYTHON_COMMAND;
use testbed::node::Node;
use testbed::site::{Site, label};
use testbed::web::Totals;
use tracer_ebpf::cri::pod::Outcome;

use crate::report::Case;

/// A measured start.
#[derive(Debug)]
pub(crate) struct Start {
    /// Times and requests.
    pub(crate) case: Case,
    /// The result that the program printed.
    pub(crate) result: String,
}

/// Runs the program in a pod, from pull to end, and waits for the end of its prefetch.
pub(crate) async fn measure(site: &Site, node: &Node, reference: &str, name: &str) -> Result<Start> {
    site.origin.take_requests();
    let begin = Instant::now();
    let outcome = node.run(reference, &PYTHON_COMMAND).await?;
    let total = begin.elapsed();
    ensure!(outcome.exit.code == 0, "the program failed: {outcome:?}");
    let result = outcome.output.stdout.lines().find(|line| line.starts_with("result "));
    let result = result.context("the program printed no result")?.to_owned();
    if node.daemon.is_some() {
        node.wait_for_prefetch(reference).await?;
    }
    let client = site.origin.totals(label::CLIENT);
    let daemon = site.origin.totals(label::DAEMON);
    Ok(Start { case: case(name, &outcome, total, client, daemon), result })
}

fn case(name: &str, outcome: &Outcome, total: Duration, client: Totals, daemon: Totals) -> Case {
    let timings = &outcome.timings;
    Case {
        name: name.to_owned(),
        pull_s: timings.pull.as_secs_f64(),
        start_s: (timings.sandbox + timings.create + timings.start).as_secs_f64(),
        run_s: timings.run.as_secs_f64(),
        total_s: total.as_secs_f64(),
        client_requests: client.requests,
        client_bytes: client.bytes,
        daemon_requests: daemon.requests,
        daemon_bytes: daemon.bytes,
        files_used: 0,
    }
}
