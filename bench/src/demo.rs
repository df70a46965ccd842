//! The demo: records a container, builds and publishes its bundle, and starts it prefetched. See [`run`].

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use api::proto::RequestState;
use testbed::images::{self, PYTHON_COMMAND};
use testbed::node::{Node, NodeSpec};
use testbed::site::{Site, image_cache, with_round_trip};

use crate::report::{Case, Report};
use crate::start::{self, Start};

/// Round trip between node and server.
const ROUND_TRIP: Duration = Duration::from_millis(20);
/// Repetitions of the prefetched and the warm start; the table shows medians.
const ROUNDS: usize = 3;
const REPORT: &str = "bench/out/demo.json";
/// Up to this ratio two times are called about equal.
const ABOUT_EQUAL: f64 = 1.25;

/// Sets up a site, starts a Python program cold, prefetched and warm, prints a table and what it means, and writes
/// `bench/out/demo.json`.
///
/// Fails only if something did not work: a program that fails or prints another result, a prefetch that misses an object, a
/// warm start that still needs the network. Times are explained, never judged: they depend on the machine.
pub async fn run() -> Result<()> {
    println!(
        "This demo runs a CVMFS server, an image registry and worker nodes on this machine, {} ms apart. It starts a Python\n\
         program that uses several hundred files: on an empty node, on an empty node with prefetch, and again (warm).\n\
         It takes 1 to 3 minutes; the first run builds the image and takes 3 to 10.\n",
        ROUND_TRIP.as_millis()
    );
    let mut steps = Steps::new(5 + ROUNDS);
    steps.begin("building the image (the first time: download and install Debian and Python)");
    let image = images::python(&image_cache()?)?;
    steps.begin("publishing it to the CVMFS repository and the registry");
    let mut site = Site::start("site", with_round_trip(ROUND_TRIP)).await?;
    let reference = site.publish(&image).await?;

    steps.begin("cold start on the first node: every file is fetched when it is opened");
    let node = Node::start(&site, "first-node", NodeSpec::default()).await?;
    let cold = start::measure(&site, &node, &reference, "cold").await?;
    steps.done(&cold.case);
    steps.begin("recording the files that the program uses");
    let trace = node.record(&reference, &PYTHON_COMMAND)?;
    drop(node);
    let files = Site::files_in(&trace)?;
    ensure!(files > 0, "the trace is empty");
    steps.begin(&format!("building a bundle of these {files} files and publishing it in the repository"));
    let bundle = site.build_bundle(&[&trace])?;
    site.publish_bundle(&bundle)?;

    let mut prefetched = Vec::new();
    let mut warm = Vec::new();
    for round in 1..=ROUNDS {
        steps.begin(&format!("prefetched start on a new node, then a warm start ({round} of {ROUNDS})"));
        let node = Node::start(&site, &format!("node-{round}"), NodeSpec::default()).await?;
        let first = start::measure(&site, &node, &reference, "prefetched").await?;
        check_prefetch(&node, &reference).await?;
        check_result(&first, &cold)?;
        steps.done(&first.case);
        let again = start::measure(&site, &node, &reference, "warm").await?;
        check_result(&again, &cold)?;
        ensure!(again.case.client_requests == 0, "the warm start needed {} requests", again.case.client_requests);
        steps.done(&again.case);
        prefetched.push(first.case);
        warm.push(again.case);
    }
    let cases = [cold.case, Case::median_of(&prefetched), Case::median_of(&warm)];
    let report = Report::new(cases.map(|case| Case { files_used: files, ..case }).into(), Vec::new());
    report.write(Path::new(REPORT))?;
    println!("\n{}{}", report.table(), explanation(&report));
    Ok(())
}

/// Checks that the prefetch brought every object of the bundle into the cache.
async fn check_prefetch(node: &Node, reference: &str) -> Result<()> {
    let requests = node.wait_for_prefetch(reference).await?;
    for request in requests {
        ensure!(request.state() == RequestState::Done, "the prefetch ended with {request:?}");
        let tally = request.tally.context("a status without counts")?;
        ensure!(tally.failed_objects == 0 && tally.skipped_objects == 0, "the prefetch missed objects: {tally:?}");
    }
    Ok(())
}

fn check_result(start: &Start, cold: &Start) -> Result<()> {
    ensure!(
        start.result == cold.result,
        "the {} start printed {:?} instead of {:?}",
        start.case.name,
        start.result,
        cold.result
    );
    Ok(())
}

/// Numbered steps on standard output, with the time that each took.
struct Steps {
    number: usize,
    of: usize,
    begin: Instant,
}

impl Steps {
    fn new(of: usize) -> Self {
        Self { number: 0, of, begin: Instant::now() }
    }

    fn begin(&mut self, what: &str) {
        self.number += 1;
        println!("[{}/{}, {:>3} s] {what}", self.number, self.of, self.begin.elapsed().as_secs());
    }

    fn done(&self, case: &Case) {
        println!("{:>16}{}: {:.1} s, {} requests of the client", "", case.name, case.total_s, case.client_requests);
    }
}

/// How the times compare, in words.
fn explanation(report: &Report) -> String {
    let [cold, prefetched, warm] = &report.cases[..] else { return String::new() };
    let mut text = String::new();
    let gain = cold.total_s / prefetched.total_s;
    if gain >= ABOUT_EQUAL {
        let _ = writeln!(text, "The prefetched start was {gain:.1} times as fast as the cold one.");
    } else {
        let _ = writeln!(
            text,
            "The prefetched start was not faster than the cold one ({:.1} s and {:.1} s). That happens when the machine is so\n\
             slow or busy that its cores, not the network, limit the start.",
            prefetched.total_s, cold.total_s
        );
    }
    let ratio = prefetched.run_s / warm.run_s;
    if ratio <= ABOUT_EQUAL {
        let _ = writeln!(text, "The program ran about as fast as with a warm cache.");
    } else {
        let _ = writeln!(
            text,
            "The program took {ratio:.1} times as long as with a warm cache: while it runs, the daemon still fetches and decompresses\n\
             files on the same {} cores. With more cores, or less busy ones, the ratio approaches 1.",
            report.machine.cores
        );
    }
    let _ = writeln!(
        text,
        "The client sent {} requests instead of {}, all others were answered by the cache that the daemon had filled.",
        prefetched.client_requests, cold.client_requests
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(cold: f64, prefetched: f64, warm: f64) -> Report {
        let case = |name: &str, seconds: f64, client_requests: u64| Case {
            name: name.to_owned(),
            run_s: seconds,
            total_s: seconds,
            client_requests,
            ..Case::default()
        };
        let cases = vec![case("cold", cold, 821), case("prefetched", prefetched, 14), case("warm", warm, 0)];
        Report::new(cases, Vec::new())
    }

    #[test]
    fn times_are_compared_in_words() {
        for (times, expected) in [
            ((20.0, 2.0, 1.9), ["10.0 times as fast as the cold one", "about as fast as with a warm cache"]),
            ((20.0, 4.0, 2.0), ["5.0 times as fast", "took 2.0 times as long as with a warm cache"]),
            ((4.0, 4.0, 2.0), ["not faster than the cold one (4.0 s and 4.0 s)", "14 requests instead of 821"]),
        ] {
            let text = explanation(&report(times.0, times.1, times.2));
            assert!(expected.iter().all(|part| text.contains(part)), "{expected:?} is not in {text}");
        }
    }
}
