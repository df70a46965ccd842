//! All ways under all conditions, in turn: what slows the machine down for a while slows down all of them.

use anyhow::Result;
use testbed::site::Site;

use super::limit::Stored;
use super::options::Options;
use super::ways::{self, Run, Way};
use super::workload::Workload;
use crate::condition::Condition;
use crate::statistics::{Spread, spread};

/// All measurements.
#[derive(Debug, Clone, Default, serde::Serialize)]
#[serde(transparent)]
pub(super) struct Runs(pub(super) Vec<Run>);

impl Runs {
    /// Measures a workload.
    pub(super) async fn measure(
        site: &Site,
        (name, workload): (&'static str, &Workload),
        stored: &Stored<'_>,
        options: &Options,
    ) -> Result<Self> {
        let mut runs = Vec::new();
        for repetition in 1..=options.repetitions() {
            for condition in options.conditions() {
                eprintln!("{name}, {}, repetition {repetition} ...", condition.name());
                for way in options.ways() {
                    let run = ways::measure(site, (name, workload), stored, condition, way, options).await?;
                    eprintln!("  {:<20} {:>8.3} s  {} requests", way.name(), run.seconds, run.requests_at.len());
                    runs.push(run);
                }
            }
        }
        Ok(Self(runs))
    }

    /// Those of one way under one condition.
    pub(super) fn of(&self, way: Way, condition: Condition) -> impl Iterator<Item = &Run> {
        self.0.iter().filter(move |run| run.way == way && run.condition == condition)
    }

    /// Times of these, in seconds.
    pub(super) fn seconds(&self, way: Way, condition: Condition) -> Option<Spread> {
        spread(self.of(way, condition).map(|run| run.seconds).collect())
    }

    /// How many times as long one way takes as another: the median over the repetitions, each compared within itself.
    pub(super) fn ratio(&self, way: Way, other: Way, condition: Condition) -> Option<f64> {
        let pairs = self.of(way, condition).zip(self.of(other, condition));
        Some(spread(pairs.map(|(one, other)| one.seconds / other.seconds).collect())?.median)
    }
}
