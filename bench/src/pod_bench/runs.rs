//! All modes at all round trips. Modes alternate, so that a slow phase of the machine affects all of them.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::proto::RequestState;
use serde::Serialize;
use testbed::node::Node;
use testbed::site::Site;
use testbed::web::LinkSpec;

use super::bundle::Bundles;
use super::modes::Mode;
use super::options::Options;
use crate::report::Case;
use crate::start;
use crate::statistics::spread;

/// One pod.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Run {
    pub(super) mode: Mode,
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
                site.set_link(LinkSpec::with_round_trip(Duration::from_millis(round_trip_ms)));
                let mut node: Option<Node> = None;
                for mode in Mode::ALL {
                    if let Some(spec) = mode.node() {
                        bundles.publish(site, mode == Mode::Bundle)?;
                        // The previous node stops first.
                        drop(node.take());
                        let name = format!("{}-{round_trip_ms}-{repetition}", mode.name().replace(' ', "-"));
                        node = Some(Node::start(site, &name, spec).await?);
                    }
                    let node = node.as_ref().context("no node was started")?;
                    let name = format!("{round_trip_ms} ms, {}", mode.name());
                    let case = start::measure(site, node, reference, &name).await?.case;
                    check(node, reference, mode).await?;
                    eprintln!(
                        "  {:<12} pull {:>6.2} s, start {:>5.2} s, run {:>6.2} s",
                        mode.name(),
                        case.pull_s,
                        case.start_s,
                        case.run_s
                    );
                    let case = Case { files_used: bundles.files, ..case };
                    runs.push(Run { mode, round_trip_ms, case });
                }
            }
        }
        Ok(Self(runs))
    }

    /// Medians, by round trip and mode.
    pub(super) fn medians(&self) -> Vec<Case> {
        let all = self.round_trips().into_iter().flat_map(|ms| Mode::ALL.map(|mode| (mode, ms)));
        all.map(|(mode, ms)| Case::median_of(&self.select(mode, ms).cloned().collect::<Vec<_>>())).collect()
    }

    pub(super) fn round_trips(&self) -> Vec<u64> {
        let mut found: Vec<u64> = self.0.iter().map(|run| run.round_trip_ms).collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    fn select(&self, mode: Mode, ms: u64) -> impl Iterator<Item = &Case> {
        self.0.iter().filter(move |run| run.mode == mode && run.round_trip_ms == ms).map(|run| &run.case)
    }

    /// The median ratio of two modes' times, each taken within one repetition.
    pub(super) fn ratio(&self, mode: Mode, other: Mode, ms: u64, time: fn(&Case) -> f64) -> Result<f64> {
        let pairs = self.select(mode, ms).zip(self.select(other, ms));
        let ratios = spread(pairs.map(|(case, other)| time(case) / time(other)).collect());
        Ok(ratios.with_context(|| format!("nothing was measured at {ms} ms"))?.median)
    }
}

/// Checks that the prefetch ended as this mode requires.
/// Checks that the prefetch ended as the mode requires.
async fn check(node: &Node, reference: &str, mode: Mode) -> Result<()> {
    if node.daemon.is_none() {
        return Ok(());
    }
    let newest =
        node.wait_for_prefetch(reference).await?.into_iter().next().context("the daemon received no request")?;
    let expected = if mode == Mode::NoBundle { RequestState::NoBundle } else { RequestState::Done };
    ensure!(newest.state() == expected, "{}: the prefetch ended with {newest:?}", mode.name());
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn run(mode: Mode, round_trip_ms: u64, total_s: f64) -> Run {
        Run { mode, round_trip_ms, case: Case { total_s, ..Case::default() } }
    }

    #[test]
    fn ratios_are_taken_within_a_repetition() {
        let runs = Runs(vec![
            run(Mode::Bundle, 20, 1.0),
            run(Mode::Legacy, 20, 2.0),
            run(Mode::Bundle, 20, 9.0),
            run(Mode::Legacy, 20, 10.0),
            run(Mode::Bundle, 20, 1.0),
            run(Mode::Legacy, 20, 10.0),
            run(Mode::Bundle, 0, 7.0),
        ]);
        assert_eq!(runs.ratio(Mode::Bundle, Mode::Legacy, 20, |case| case.total_s).unwrap(), 0.5);
        assert!(runs.ratio(Mode::Bundle, Mode::Legacy, 0, |case| case.total_s).is_err());
        assert_eq!(runs.round_trips(), [0, 20]);
        let medians: Vec<f64> = runs.medians().iter().map(|case| case.total_s).collect();
        assert_eq!(medians, [0.0, 0.0, 7.0, 0.0, 10.0, 0.0, 1.0, 0.0]);
    }
}
