//! The demonstration, which is the whole chain once: see [`run`].

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use testbed::images::{self, PYTHON_COMMAND};
use testbed::node::{Node, NodeSpec};
use testbed::site::{Site, image_cache, label, with_round_trip};
use testbed::web::Totals;
use tracer_ebpf::cri::pod::Outcome;

use crate::report::{Case, Report, Target};

/// The demonstration's round trip between node and server.
pub const ROUND_TRIP: Duration = Duration::from_millis(20);
/// How often the short starts are repeated, in turn; the table shows medians.
const ROUNDS: usize = 3;
const REPORT: &str = "bench/out/demo.json";

/// Sets up a site, shows three kinds of start of a Python program, prints a table and writes `bench/out/demo.json`. Fails if a
/// start fails or a target is missed.
pub async fn run() -> Result<()> {
    say("making the image (the first time, this installs Debian and Python into a directory: some minutes)");
    let image = images::python(&image_cache()?)?;
    let mut site = Site::start("site", with_round_trip(ROUND_TRIP)).await?;
    say("publishing its layers into the CVMFS repository, pushing it to the registry");
    let reference = site.publish(&image).await?;

    let first = Node::start(&site, "first-node", NodeSpec::default()).await?;
    say("first start on a node with an empty cache, 20 ms from the server ...");
    let cold = start(&site, &first, &reference, "cold").await?;
    say(&format!("  {:.1} s, {} requests; recording another start ...", cold.total_s, cold.client_requests));
    let trace = first.record(&reference, &PYTHON_COMMAND)?;
    let files = Site::files_in(&trace)?;
    say(&format!("  {files} files used; building and publishing the bundle ..."));
    let bundle = site.build_bundle(&[&trace])?;
    site.publish_bundle(&bundle)?;
    drop(first);

    let (mut prefetched, mut warm) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        let node = Node::start(&site, &format!("node-{round}"), NodeSpec::default()).await?;
        say("start on another node with an empty cache, with prefetch ...");
        let first = start(&site, &node, &reference, "prefetch").await?;
        say(&format!("  {:.1} s, {} requests of the client; again, warm ...", first.total_s, first.client_requests));
        let again = start(&site, &node, &reference, "warm").await?;
        say(&format!("  {:.1} s", again.total_s));
        prefetched.push(first);
        warm.push(again);
    }
    let (prefetch, warm) = (Case::of_runs(&prefetched), Case::of_runs(&warm));
    let targets = targets(&cold, &prefetch, &warm);
    let cases = [cold, prefetch, warm].map(|case| Case { files_used: files, ..case });
    let report = Report::new(cases.into(), targets);
    report.write(Path::new(REPORT))?;
    println!("\n{}", report.table());
    ensure!(report.targets.iter().all(|target| target.ok), "a target was missed, see the table");
    Ok(())
}

/// One start, from pull to end, with what it cost on the wire.
pub async fn start(site: &Site, node: &Node, reference: &str, name: &str) -> Result<Case> {
    site.origin.take_requests();
    let begin = Instant::now();
    let outcome = node.run(reference, &PYTHON_COMMAND).await?;
    let total = begin.elapsed();
    check(&outcome)?;
    if node.daemon.is_some() {
        node.prefetched().await?;
    }
    let (client, daemon) = (site.origin.totals(label::CLIENT), site.origin.totals(label::DAEMON));
    Ok(case(name, &outcome, total, client, daemon))
}

fn check(outcome: &Outcome) -> Result<()> {
    ensure!(outcome.exit.code == 0, "the program failed: {outcome:?}");
    outcome.output.stdout.lines().find(|line| line.starts_with("result ")).context("the program printed no result")?;
    Ok(())
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

fn targets(cold: &Case, prefetch: &Case, warm: &Case) -> Vec<Target> {
    let requests = prefetch.client_requests as f64 / cold.client_requests as f64;
    vec![
        Target::at_most("whole time, prefetch / cold", prefetch.total_s / cold.total_s, 1.0 / 3.0),
        Target::at_most("run time, prefetch / warm", prefetch.run_s / warm.run_s, 1.25),
        Target::at_most("requests of the client, prefetch / cold", requests, 0.02),
    ]
}

fn say(what: &str) {
    println!("{what}");
}
