//! The metrics that Prometheus reads. `docs/src/metrics.md` lists every metric; a test compares it with this.
//!
//! Most counters are not kept here but derived from the tallies of requests at each scrape: see [`counts`].

mod counts;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bundles::store::Usage;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::request::Requests;
use crate::request::tally::Tally;
use counts::Counts;

/// All metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    request_time: Histogram,
    first_byte_time: Histogram,
    critical_time: Histogram,
    bundles: Gauge,
    bundle_bytes: Gauge,
}

/// Metrics that other parts of the daemon update.
#[derive(Debug, Clone, Default)]
pub struct Shared {
    /// Damaged bundles that were found in the store.
    pub damaged_bundles: Counter,
    /// Bundles that were found bad because the servers do not have their objects.
    pub bad_bundles: Counter,
    /// Files that were not read through their mount.
    pub page_cache_skipped: Counter,
    /// What is wrong with the settings of repositories.
    pub settings_problems: Gauge,
    /// Share of the connections that may be used.
    pub connection_share: Gauge<f64, AtomicU64>,
}

impl Metrics {
    /// Metrics of these requests.
    pub fn new(requests: Arc<Requests>, shared: Shared) -> Self {
        let mut registry = Registry::with_prefix("cvmfs_prefetch");
        // From 1 ms to somewhat over half an hour.
        let times = || Histogram::new(exponential_buckets(0.001, 4.0, 11));
        let (request_time, first_byte_time, critical_time) = (times(), times(), times());
        let (bundles, bundle_bytes) = (Gauge::default(), Gauge::default());
        let Shared { damaged_bundles: damaged, bad_bundles: bad, page_cache_skipped: left_out, .. } = shared;
        let (share, problems) = (shared.connection_share, shared.settings_problems);
        share.set(1.0);
        registry.register("build", "Version of the program", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        for (name, help, histogram) in [
            ("request", "Time from the start of a request to its end", &request_time),
            (
                "time_to_first_byte",
                "Time from the start of a request until its first object arrived over the network",
                &first_byte_time,
            ),
            (
                "time_to_critical",
                "Time from the start of a request until its critical objects were in the cache",
                &critical_time,
            ),
        ] {
            registry.register_with_unit(name, help, Unit::Seconds, histogram.clone());
        }
        registry.register("stored_bundles", "Bundles in the daemon's store", bundles.clone());
        registry.register_with_unit(
            "stored_bundle",
            "Size of the bundles in the daemon's store",
            Unit::Bytes,
            bundle_bytes.clone(),
        );
        registry.register("damaged_bundles", "Damaged bundles that were found in the store and removed", damaged);
        registry.register("bad_bundles", "Bundles that were abandoned because servers lack many of their objects", bad);
        registry.register(
            "page_cache_skipped",
            "Files and directories that were not preloaded into the page cache",
            left_out,
        );
        registry.register(
            "settings_problems",
            "Repositories that cannot be served, and repositories with settings that could not be read",
            problems,
        );
        registry.register("connection_share", "Share of its connections that the daemon may use", share);
        registry.register_collector(Box::new(Counts(requests)));
        Self { registry, request_time, first_byte_time, critical_time, bundles, bundle_bytes }
    }

    /// Records the times of a request that has ended. Those of points that it did not reach are left out.
    pub fn ended(&self, tally: &Tally) {
        for (histogram, time) in [
            (&self.request_time, tally.elapsed),
            (&self.first_byte_time, tally.time_to_first_byte),
            (&self.critical_time, tally.time_to_critical),
        ] {
            if let Some(time) = time {
                histogram.observe(time.as_secs_f64());
            }
        }
    }

    /// All of them in the text format of OpenMetrics. `stored` is unknown if the store does not answer.
    pub fn text(&self, stored: Option<Usage>) -> String {
        if let Some(Usage { bundles, bytes }) = stored {
            self.bundles.set(bundles as i64);
            self.bundle_bytes.set(bytes as i64);
        }
        let mut text = String::new();
        // A `String` takes whatever is written.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const DOCUMENTATION: &str = include_str!("../../../docs/src/metrics.md");

    #[test]
    fn the_documentation_lists_what_is_served() {
        let text = Metrics::new(Requests::new(1, 1), Shared::default()).text(Some(Usage::default()));
        let name = |line: &str| line.split(['{', ' ']).next().unwrap_or_default().to_owned();
        let base = |name: String| match ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)) {
            Some(histogram) => histogram.to_owned(),
            None => name,
        };
        let served: BTreeSet<String> = text.lines().filter(|line| !line.starts_with('#')).map(name).map(base).collect();
        let rows = DOCUMENTATION.lines().filter_map(|line| line.strip_prefix("| `"));
        let documented: BTreeSet<String> = rows.map(|row| name(&row.replace('`', " "))).collect();
        assert_eq!(documented, served);
        // Odd pieces are between quotation marks: values of labels, apart from buckets and the version.
        let values =
            |text: &str| -> BTreeSet<String> { text.split('"').skip(1).step_by(2).map(str::to_owned).collect() };
        let labels = text.lines().filter(|line| !line.contains("_bucket") && !line.contains("_info"));
        for value in labels.flat_map(values) {
            assert!(DOCUMENTATION.contains(&format!("`{value}`")), "{value} is not documented");
        }
    }

    #[test]
    fn names_follow_the_conventions() {
        let shared = Shared::default();
        let (damaged, left_out, share) =
            (shared.damaged_bundles.clone(), shared.page_cache_skipped.clone(), shared.connection_share.clone());
        let metrics = Metrics::new(Requests::new(1, 1), shared);
        damaged.inc_by(3);
        left_out.inc_by(4);
        share.set(0.5);
        let text = metrics.text(None);
        assert!(text.ends_with("# EOF\n"), "{text}");
        for line in ["damaged_bundles_total 3", "page_cache_skipped_total 4", "connection_share 0.5"] {
            assert!(text.contains(&format!("cvmfs_prefetch_{line}\n")), "{text}");
        }
        for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            assert!(line.starts_with("cvmfs_prefetch_") && !line.contains("_total "), "{line}");
        }
    }
}
