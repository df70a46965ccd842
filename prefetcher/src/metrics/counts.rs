//! Counters derived from the tallies of all requests, at the moment of a scrape.

use std::fmt::Error;
use std::sync::Arc;

use api::proto::RequestState;
use node::metrics_http::counter;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::cache::{cache_manager, publish, registrar};
use crate::request::Requests;
use crate::request::tally::{Outcome, Tally};

/// Counters of these requests.
#[derive(Debug)]
pub(super) struct Counts(pub(super) Arc<Requests>);

impl Collector for Counts {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let totals = self.0.totals();
        let tally = totals.tally;
        let ends = RequestState::all().filter(|s| !matches!(s, RequestState::Unspecified | RequestState::Running));
        let ended: Vec<_> =
            ends.map(|state| (state.name(), totals.ended.get(&state).copied().unwrap_or_default())).collect();
        let outcomes = by_label(&tally, |outcome| Some(outcome.name()));
        let failures = by_label(&tally, |outcome| outcome.cause().filter(|_| outcome.is_failure()));
        let skips = by_label(&tally, |outcome| outcome.cause().filter(|_| outcome.is_skip()));
        let fetched = tally.count(Outcome::Fetched);
        let bytes = [("stored", fetched.stored_bytes), ("raw", fetched.raw_bytes)];
        counter(&mut encoder, "requests", "Requests that have ended, by state", "state", &ended)?;
        counter(&mut encoder, "objects", "Objects of requests, by outcome", "outcome", &outcomes)?;
        counter(&mut encoder, "failures", "Objects that failed, by cause", "cause", &failures)?;
        counter(&mut encoder, "skipped", "Objects that were skipped, by cause", "cause", &skips)?;
        let help = "Objects written to a cache with a cache manager, by result of their registration";
        counter(&mut encoder, "registrations", help, "outcome", &cache_manager::registrations())?;
        counter(&mut encoder, "bytes", "Bytes of fetched objects", "kind", &bytes)?;
        let replaced = ConstCounter::new(publish::replaced());
        let help = "Damaged objects in a cache that were replaced";
        replaced.encode(encoder.encode_descriptor("replaced_objects", help, None, replaced.metric_type())?)?;
        let waiting = ConstGauge::new(registrar::waiting() as i64);
        let help = "Objects in a cache that wait to be registered with the cache manager";
        waiting.encode(encoder.encode_descriptor("unregistered_objects", help, None, waiting.metric_type())?)?;
        let running = ConstGauge::new(totals.running as i64);
        let metric = encoder.encode_descriptor("running_requests", "Running requests", None, running.metric_type())?;
        running.encode(metric)
    }
}

/// The numbers of objects, added up by the label that each outcome has.
fn by_label(tally: &Tally, label: impl Fn(Outcome) -> Option<&'static str>) -> Vec<(&'static str, u64)> {
    let mut sums: Vec<(&'static str, u64)> = Vec::new();
    for (outcome, count) in tally.outcomes() {
        let Some(label) = label(outcome) else { continue };
        match sums.iter_mut().find(|(known, _)| *known == label) {
            Some((_, sum)) => *sum += count.objects,
            None => sums.push((label, count.objects)),
        }
    }
    sums
}
