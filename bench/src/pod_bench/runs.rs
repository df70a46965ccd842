//! All ways over all lines, in turn: what slows the machine down for a while slows down all of them.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use prefetcher::api::RequestState;
use serde::Serialize;
use testbed::node::Node;
use testbed::site::Site;
use testbed::web::LineSpec;

use super::bundle::Bundles;
use super::options::Options;
use super::ways::Way;
use crate::demo;
use crate::report::Case;
use crate::statistics::spread;

/// One pod.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Run {
    pub(super) way: Way,
    pub(super) round_trip_ms: u64,
    #[serde(flatten)]
    pub(super) case: Case,
}

/// All pods.
#[derive(Debug)]
pub(super) struct Runs(pub(super) Vec<Run>);

impl Runs {
    /// Runs all pods.
    pub(super) async fn measure(
        site: &mut Site,
        reference: &str,
        bundles: &Bundles,
        options: &Options,
    ) -> Result<Self> {
        let mut runs = Vec::new();
        for repetition in 1..=options.repetitions() {
            for &round_trip_ms in options.round_trips() {
                eprintln!("{round_trip_ms} ms, repetition {repetition} ...");
                site.set_line(LineSpec::with_round_trip(Duration::from_millis(round_trip_ms)));
                let mut node: Option<Node> = None;
                for way in Way::ALL {
                    if let Some(spec) = way.node() {
                        bundles.publish(site, way == Way::Bundle)?;
                        // The one before stops first.
                        drop(node.take());
                        let name = format!("{}-{round_trip_ms}-{repetition}", way.name().replace(' ', "-"));
                        node = Some(Node::start(site, &name, spec).await?);
                    }
                    let node = node.as_ref().context("the first way starts a node")?;
                    let case =
                        demo::start(site, node, reference, &format!("{round_trip_ms} ms, {}", way.name())).await?;
                    check(node, way).await?;
                    eprintln!(
                        "  {:<12} pull {:>6.2} s, start {:>5.2} s, run {:>6.2} s",
                        way.name(),
                        case.pull_s,
                        case.start_s,
                        case.run_s
                    );
                    let case = Case { files_used: bundles.files, ..case };
                    runs.push(Run { way, round_trip_ms, case });
                }
            }
        }
        Ok(Self(runs))
    }

    /// The median of each, line by line.
    pub(super) fn medians(&self) -> Vec<Case> {
        let all = self.round_trips().into_iter().flat_map(|ms| Way::ALL.map(|way| (way, ms)));
        all.map(|(way, ms)| Case::of_runs(&self.of(way, ms).cloned().collect::<Vec<_>>())).collect()
    }

    pub(super) fn round_trips(&self) -> Vec<u64> {
        let mut found: Vec<u64> = self.0.iter().map(|run| run.round_trip_ms).collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    fn of(&self, way: Way, ms: u64) -> impl Iterator<Item = &Case> {
        self.0.iter().filter(move |run| run.way == way && run.round_trip_ms == ms).map(|run| &run.case)
    }

    /// How many times as long one way takes as another: the median over the repetitions, each compared within itself.
    pub(super) fn ratio(&self, one: Way, other: Way, ms: u64, time: fn(&Case) -> f64) -> Result<f64> {
        let pairs = self.of(one, ms).zip(self.of(other, ms));
        let ratios = spread(pairs.map(|(one, other)| time(one) / time(other)).collect());
        Ok(ratios.with_context(|| format!("nothing was measured at {ms} ms"))?.median)
    }
}

/// Sees that the program's files came the way they were to.
async fn check(node: &Node, way: Way) -> Result<()> {
    if node.daemon.is_none() {
        return Ok(());
    }
    let newest = node.prefetched().await?.into_iter().next().context("the daemon was never asked")?;
    let expected = if way == Way::NoBundle { RequestState::NoBundle } else { RequestState::Done };
    ensure!(newest.state() == expected, "{}: the prefetch ended with {newest:?}", way.name());
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn run(way: Way, round_trip_ms: u64, total_s: f64) -> Run {
        Run { way, round_trip_ms, case: Case { total_s, ..Case::default() } }
    }

    #[test]
    fn repetitions_are_compared_within_themselves() {
        let runs = Runs(vec![
            run(Way::Bundle, 20, 1.0),
            run(Way::Legacy, 20, 2.0),
            run(Way::Bundle, 20, 9.0),
            run(Way::Legacy, 20, 10.0),
            run(Way::Bundle, 20, 1.0),
            run(Way::Legacy, 20, 10.0),
            run(Way::Bundle, 0, 7.0),
        ]);
        assert_eq!(runs.ratio(Way::Bundle, Way::Legacy, 20, |case| case.total_s).unwrap(), 0.5);
        assert!(runs.ratio(Way::Bundle, Way::Legacy, 0, |case| case.total_s).is_err());
        assert_eq!(runs.round_trips(), [0, 20]);
        let medians: Vec<f64> = runs.medians().iter().map(|case| case.total_s).collect();
        assert_eq!(medians, [0.0, 0.0, 7.0, 0.0, 10.0, 0.0, 1.0, 0.0]);
    }
}
