//! All methods under all conditions. Methods alternate, so that a slow phase of the machine affects all of them.

use anyhow::Result;
use testbed::site::Site;

use super::limit::StoredObjects;
use super::measure::{self, Run};
use super::method::Method;
use super::options::Options;
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
        stored: &StoredObjects<'_>,
        options: &Options,
    ) -> Result<Self> {
        let mut runs = Vec::new();
        for repetition in 1..=options.repetitions() {
            for condition in options.conditions() {
                eprintln!("{name}, {}, repetition {repetition} ...", condition.name());
                for method in options.methods() {
                    let run = measure::measure(site, (name, workload), stored, condition, method, options).await?;
                    eprintln!("  {:<20} {:>8.3} s  {} requests", method.name(), run.seconds, run.requests_at.len());
                    runs.push(run);
                }
            }
        }
        Ok(Self(runs))
    }

    /// Measurements of one method under one condition.
    pub(super) fn select(&self, method: Method, condition: Condition) -> impl Iterator<Item = &Run> {
        self.0.iter().filter(move |run| run.method == method && run.condition == condition)
    }

    /// Their times in seconds.
    pub(super) fn seconds(&self, method: Method, condition: Condition) -> Option<Spread> {
        spread(self.select(method, condition).map(|run| run.seconds).collect())
    }

    /// The median ratio of two methods' times, each taken within one repetition.
    pub(super) fn ratio(&self, method: Method, other: Method, condition: Condition) -> Option<f64> {
        let pairs = self.select(method, condition).zip(self.select(other, condition));
        Some(spread(pairs.map(|(run, other)| run.seconds / other.seconds).collect())?.median)
    }
}
