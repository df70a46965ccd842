//! What is counted, as Prometheus reads it. `docs/src/snapshotter-metrics.md` lists every metric; a test compares it with this.

use std::fmt::{Error, Write as _};
use std::sync::Arc;
use std::time::Instant;

use prefetcher::metrics::counts::counter;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::counters::Counters;
use crate::snapshot::{Content, Kind};
use crate::store::Store;

/// How long calls took, by their name.
type Calls = Family<[(&'static str, &'static str); 1], Histogram, fn() -> Histogram>;

/// All metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    calls: Calls,
}

/// A call that is being answered. Its time is noted when this goes.
#[derive(Debug)]
pub struct Timed(Histogram, Instant);

impl Drop for Timed {
    fn drop(&mut self) {
        self.0.observe(self.1.elapsed().as_secs_f64());
    }
}

impl Metrics {
    /// Metrics of these counters and snapshots.
    pub fn new(counters: Arc<Counters>, store: Arc<Store>) -> Self {
        let mut registry = Registry::with_prefix("cvmfs_prefetch_snapshotter");
        // From 0.1 ms to somewhat over 26 s.
        let times: fn() -> Histogram = || Histogram::new(exponential_buckets(0.0001, 4.0, 10));
        let calls = Family::new_with_constructor(times);
        registry.register("build", "The program", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        registry.register_with_unit("call", "Time to answer a call of containerd", Unit::Seconds, calls.clone());
        registry.register_collector(Box::new(Counts { counters, store }));
        Self { registry, calls }
    }

    /// A call of this name begins.
    pub fn begin(&self, call: &'static str) -> Timed {
        Timed(self.calls.get_or_create(&[("call", call)]).clone(), Instant::now())
    }

    /// All of them in the text format of OpenMetrics.
    pub fn text(&self) -> String {
        let mut text = String::new();
        if let Err(error) = encode(&mut text, &self.registry) {
            // A `String` takes whatever is written.
            let _ = writeln!(text, "# {error}");
        }
        text
    }
}

/// Made when somebody asks.
#[derive(Debug)]
struct Counts {
    counters: Arc<Counters>,
    store: Arc<Store>,
}

impl Collector for Counts {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let c = &*self.counters;
        let layers = [
            ("cvmfs", c.layers_from_cvmfs.get()),
            ("shared", c.layers_shared.get()),
            ("absent", c.layers_absent.get()),
            ("fallback", c.layers_fallback.get()),
        ];
        let examined = [("bundle", c.layers_told.get()), ("listing", c.layers_walked.get())];
        let lookups = [
            ("error", c.lookups_failed.get()),
            ("timed_out", c.lookups_timed_out.get()),
            ("skipped", c.lookups_skipped.get()),
        ];
        let mounts = [
            ("seen", c.mounts_dead.get()),
            ("recovered", c.mounts_recovered.get()),
            ("refused", c.containers_refused.get()),
        ];
        let hints =
            [("sent", c.hints_sent.get()), ("failed", c.hints_failed.get()), ("dropped", c.hints_dropped.get())];
        let waits = [
            ("arrived", c.waits_arrived.get()),
            ("ahead", c.waits_ahead.get()),
            ("not_worth_it", c.waits_not_worth_it.get()),
            ("nothing", c.waits_for_nothing.get()),
            ("bound", c.waits_bounded.get()),
            ("failed", c.waits_failed.get()),
        ];
        let removals = [("disk", c.removals_deferred.get())];
        let e = &mut encoder;
        counter(e, "layers", "Layers that containerd prepared, by where they came from", "origin", &layers)?;
        counter(e, "examined_layers", "New published layers, by how their deletions were found", "by", &examined)?;
        counter(e, "failed_lookups", "Look-ups in repositories that gave no answer", "cause", &lookups)?;
        counter(e, "dead_mounts", "Containers whose layers were in a mount that is dead or gone", "end", &mounts)?;
        counter(e, "hints", "Images that the prefetch daemon was asked for", "fate", &hints)?;
        counter(e, "waits", "Containers that waited for their prefetch", "end", &waits)?;
        let help = "Directories of removed snapshots that could not be deleted at once";
        counter(e, "deferred_removals", help, "cause", &removals)?;
        let gauge = ConstGauge::new(0i64).metric_type();
        let mut family = encoder.encode_descriptor("snapshots", "Snapshots, by kind and origin", None, gauge)?;
        for (kind, origin, count) in self.snapshots() {
            let labels = [("kind", kind.as_str()), ("origin", origin)];
            ConstGauge::new(count).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

impl Counts {
    fn snapshots(&self) -> Vec<(Kind, &'static str, i64)> {
        let all =
            [(Kind::View, "local"), (Kind::Active, "local"), (Kind::Committed, "local"), (Kind::Committed, "cvmfs")];
        let mut counts = all.map(|(kind, origin)| (kind, origin, 0));
        self.store.read(|state| {
            for (_, snapshot) in state.iter() {
                let origin = match &snapshot.content {
                    Content::Local => "local",
                    Content::Cvmfs(_) => "cvmfs",
                };
                for (kind, of, count) in &mut counts {
                    *count += i64::from(*kind == snapshot.kind && *of == origin);
                }
            }
        });
        counts.into()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use super::*;

    const DOCUMENTATION: &str = include_str!("../../docs/src/snapshotter-metrics.md");

    #[test]
    fn the_documentation_lists_what_is_served() {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(&directory.path().join("metadata")).unwrap());
        let metrics = Metrics::new(Arc::default(), store);
        drop(metrics.begin("prepare"));
        let text = metrics.text();
        let name = |line: &str| line.split(['{', ' ']).next().unwrap_or_default().to_owned();
        let base = |name: String| match ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)) {
            Some(histogram) => histogram.to_owned(),
            None => name,
        };
        let served: BTreeSet<String> = text.lines().filter(|line| !line.starts_with('#')).map(name).map(base).collect();
        let rows = DOCUMENTATION.lines().filter_map(|line| line.strip_prefix("| `"));
        let documented: BTreeSet<String> = rows.map(|row| name(&row.replace('`', " "))).collect();
        assert_eq!(documented, served);
        for line in text.lines().filter(|line| !line.contains("_bucket") && !line.contains("_info")) {
            for value in line.split('"').skip(1).step_by(2) {
                assert!(DOCUMENTATION.contains(&format!("`{value}`")), "{value} is not documented");
            }
        }
    }
}
