//! Counters made of the tallies of all requests, at the moment in which they are asked for.

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
        let a = totals.tally;
        let ends = RequestState::all().filter(|s| !matches!(s, RequestState::Unspecified | RequestState::Running));
        let ended: Vec<_> =
            ends.map(|state| (state.name(), totals.ended.get(&state).copied().unwrap_or_default())).collect();
        let named = |values: &[(&str, u64)]| -> Vec<(String, u64)> {
            values.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
        };
        let outcomes = named(&[
            ("already_there", a.cached_objects),
            ("fetched", a.fetched_objects),
            ("joined", a.joined_objects),
            ("failed", a.failed_objects),
            ("skipped", a.skipped_objects),
        ]);
        let causes = named(&[
            ("transfer", a.failed_transfer),
            ("verification", a.failed_verification),
            ("write", a.failed_write),
            ("stopped", a.failed_shutdown),
            ("given_up", a.failed_cancelled),
        ]);
        let elsewhere = a.skipped_objects.saturating_sub(a.skipped_cache_full_objects);
        let skipped = named(&[("repository", elsewhere), ("room", a.skipped_cache_full_objects)]);
        let told = quota_manager::counts();
        let registrations = named(&[
            ("registered", told.registered),
            ("no_manager", told.no_manager),
            ("other_protocol", told.other_protocol),
            ("full", told.full),
            ("failed", told.failed),
        ]);
        let bytes = named(&[("stored", a.fetched_stored_bytes), ("raw", a.fetched_raw_bytes)]);
        counter(&mut encoder, "requests", "Requests that have ended", "state", &ended)?;
        counter(&mut encoder, "objects", "Objects of requests, by what became of them", "outcome", &outcomes)?;
        counter(&mut encoder, "failures", "Objects that failed", "cause", &causes)?;
        counter(&mut encoder, "skipped", "Objects that were left out", "cause", &skipped)?;
        let help = "Objects put into the cache, by whether its quota manager was told";
        counter(&mut encoder, "registrations", help, "outcome", &registrations)?;
        counter(&mut encoder, "bytes", "Bytes that were fetched", "kind", &bytes)?;
        let running = ConstGauge::new(totals.running as i64);
        let metric = encoder.encode_descriptor("running_requests", "Requests that run", None, running.metric_type())?;
        running.encode(metric)
    }
}
