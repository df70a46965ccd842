//! Counters derived from the tallies of all requests, at the moment of a scrape.

use std::fmt::Error;
use std::sync::Arc;

use api::proto::RequestState;
use node::metrics_http::counter;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::gauge::ConstGauge;

use crate::cache::quota_manager;
use crate::request::Requests;

/// The requests.
#[derive(Debug)]
pub(super) struct Counts(pub(super) Arc<Requests>);

impl Collector for Counts {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let totals = self.0.totals();
        let tally = totals.tally;
        let ends = RequestState::all().filter(|s| !matches!(s, RequestState::Unspecified | RequestState::Running));
        let ended: Vec<_> =
            ends.map(|state| (state.name(), totals.ended.get(&state).copied().unwrap_or_default())).collect();
        let named = |values: &[(&str, u64)]| -> Vec<(String, u64)> {
            values.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
        };
        let outcomes = named(&[
            ("cached", tally.cached_objects),
            ("fetched", tally.fetched_objects),
            ("joined", tally.joined_objects),
            ("failed", tally.failed_objects),
            ("skipped", tally.skipped_objects),
        ]);
        let causes = named(&[
            ("transfer", tally.failed_transfer),
            ("verification", tally.failed_verification),
            ("write", tally.failed_write),
            ("shutdown", tally.failed_shutdown),
            ("cancelled", tally.failed_cancelled),
        ]);
        let cache_full = tally.skipped_cache_full_objects;
        let skipped =
            named(&[("repository", tally.skipped_objects.saturating_sub(cache_full)), ("cache_full", cache_full)]);
        let found = quota_manager::counts();
        let registrations = named(&[
            ("registered", found.registered),
            ("no_manager", found.no_manager),
            ("unsupported_protocol", found.unsupported_protocol),
            ("pipe_full", found.pipe_full),
            ("failed", found.failed),
        ]);
        let bytes = named(&[("stored", tally.fetched_stored_bytes), ("raw", tally.fetched_raw_bytes)]);
        counter(&mut encoder, "requests", "Requests that have ended, by state", "state", &ended)?;
        counter(&mut encoder, "objects", "Objects of requests, by outcome", "outcome", &outcomes)?;
        counter(&mut encoder, "failures", "Objects that failed, by cause", "cause", &causes)?;
        counter(&mut encoder, "skipped", "Objects that were skipped, by cause", "cause", &skipped)?;
        let help = "Objects written to a cache with a cache manager, by result of their registration";
        counter(&mut encoder, "registrations", help, "outcome", &registrations)?;
        counter(&mut encoder, "bytes", "Bytes of fetched objects", "kind", &bytes)?;
        let running = ConstGauge::new(totals.running as i64);
        let metric = encoder.encode_descriptor("running_requests", "Running requests", None, running.metric_type())?;
        running.encode(metric)
    }
}
