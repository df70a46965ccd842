//! Counters and timings, served to Prometheus. `docs/src/snapshotter-metrics.md` lists every metric; a test compares it with
//! this module.
//!
//! Each fallback and each lost prefetch request is counted here. Every value of a label is exported from the start, at 0.

use std::fmt::{self, Debug, Write as _};
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Instant;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::snapshots::store::Store;
use crate::snapshots::{Content, Kind};

const PREFIX: &str = "cvmfs_prefetch_snapshotter";

/// The values of a counter's label.
pub trait Label: Copy + Debug + 'static {
    /// Name of the label.
    const NAME: &'static str;
    /// All values.
    const ALL: &'static [Self];
    /// The value as Prometheus shows it.
    fn value(self) -> &'static str;
}

macro_rules! label {
    ($(#[$doc:meta])* $type:ident $name:literal { $($(#[$variant_doc:meta])* $variant:ident = $value:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $type { $($(#[$variant_doc])* $variant,)* }

        impl Label for $type {
            const NAME: &'static str = $name;
            const ALL: &'static [Self] = &[$(Self::$variant,)*];
            fn value(self) -> &'static str {
                match self { $(Self::$variant => $value,)* }
            }
        }
    };
}

label! {
    /// Where a layer that containerd prepared came from.
    LayerOrigin "origin" {
        /// Taken from CVMFS.
        Cvmfs = "cvmfs",
        /// Pulled earlier, by another image or namespace.
        Shared = "shared",
        /// No repository has the layer, so containerd unpacks it.
        Absent = "absent",
        /// A repository could not be read, so containerd unpacks the layer.
        Fallback = "fallback",
        /// Nobody states the layer's diff ID, so containerd unpacks the layer and verifies it.
        Unverified = "unverified",
        /// The image gives the layer a chain ID that is not the layer's. containerd unpacks it, and refuses the image.
        Mismatch = "mismatch",
    }
}

label! {
    /// How the whiteouts of a new published layer were found.
    ScanSource "source" {
        /// In the image's bundle.
        Bundle = "bundle",
        /// By listing the layer's directories.
        Listing = "listing",
    }
}

label! {
    /// Whether a layer has the whiteouts that a bundle lists.
    BundleScan "outcome" {
        /// It has them.
        Confirmed = "confirmed",
        /// It has others.
        Wrong = "wrong",
    }
}

label! {
    /// Why a lookup in a repository gave no answer.
    LookupFailure "cause" {
        /// The mount returned an error.
        Error = "error",
        /// The mount did not answer in time.
        Timeout = "timeout",
        /// Not started, because earlier lookups hang.
        Skipped = "skipped",
    }
}

label! {
    /// What became of a container whose layers are in a mount that is dead or gone.
    DeadMount "outcome" {
        /// Counted for each of these containers.
        Detected = "detected",
        /// The mount came back in time.
        Recovered = "recovered",
        /// The container was refused.
        Refused = "refused",
    }
}

label! {
    /// What became of a request to the prefetch daemon.
    PrefetchOutcome "outcome" {
        /// The daemon accepted it.
        Sent = "sent",
        /// The daemon refused it, or did not answer in time.
        Failed = "failed",
        /// The queue was full.
        Dropped = "dropped",
    }
}

label! {
    /// Why a container stopped waiting for its prefetch.
    WaitOutcome "outcome" {
        /// All critical objects are in the cache.
        Ready = "ready",
        /// The pending objects are expected before the container reads them.
        InTime = "in_time",
        /// Nothing was fetched for so long that waiting does not pay.
        Stalled = "stalled",
        /// There is no bundle, or some critical object cannot be fetched.
        Unavailable = "unavailable",
        /// `max_wait` passed.
        Timeout = "timeout",
        /// The daemon did not answer.
        Failed = "failed",
    }
}

label! {
    /// Why the directory of a removed snapshot is still there.
    DeferredRemoval "cause" {
        /// Deleting it failed; the next clean-up tries again.
        Disk = "disk",
    }
}

/// A counter for each value of a label.
#[derive(Debug)]
pub struct Counters<L>(Family<[(&'static str, &'static str); 1], Counter>, PhantomData<L>);

impl<L: Label> Counters<L> {
    fn register(registry: &mut Registry, name: &str, help: &str) -> Self {
        let family = Family::default();
        registry.register(name, help, family.clone());
        let this = Self(family, PhantomData);
        L::ALL.iter().for_each(|label| drop(this.counter(*label)));
        this
    }

    fn counter(&self, label: L) -> Counter {
        self.0.get_or_create_owned(&[(L::NAME, label.value())])
    }

    /// Adds one.
    pub fn increment(&self, label: L) {
        self.counter(label).inc();
    }

    /// The count since the start.
    pub fn get(&self, label: L) -> u64 {
        self.counter(label).get()
    }
}

/// Time to answer a call, by the call's name.
type Calls = Family<[(&'static str, &'static str); 1], Histogram, fn() -> Histogram>;

/// All metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    calls: Calls,
    /// Layers that containerd prepared.
    pub layers: Counters<LayerOrigin>,
    /// New published layers.
    pub scanned_layers: Counters<ScanSource>,
    /// Comparisons of a bundle's whiteouts with the layer itself.
    pub bundle_scans: Counters<BundleScan>,
    /// Lookups in repositories that gave no answer.
    pub failed_lookups: Counters<LookupFailure>,
    /// Containers on mounts that are dead or gone.
    pub dead_mounts: Counters<DeadMount>,
    /// Requests to the prefetch daemon.
    pub prefetch_requests: Counters<PrefetchOutcome>,
    /// Containers that waited for their prefetch.
    pub waits: Counters<WaitOutcome>,
    /// Directories of removed snapshots that could not be deleted at once.
    pub deferred_removals: Counters<DeferredRemoval>,
}

/// A call that is being answered. Dropping it records the time.
#[derive(Debug)]
pub struct RunningCall {
    seconds: Histogram,
    start: Instant,
}

impl Drop for RunningCall {
    fn drop(&mut self) {
        self.seconds.observe(self.start.elapsed().as_secs_f64());
    }
}

impl Metrics {
    /// Registers all metrics but the snapshots.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        // From 0.1 ms to 26 s.
        let buckets: fn() -> Histogram = || Histogram::new(exponential_buckets(0.0001, 4.0, 10));
        let calls = Calls::new_with_constructor(buckets);
        registry.register("build", "Version of the program", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        registry.register_with_unit("call", "Time to answer a call of containerd", Unit::Seconds, calls.clone());
        let r = &mut registry;
        Self {
            layers: Counters::register(r, "layers", "Layers that containerd prepared, by origin"),
            scanned_layers: Counters::register(r, "scanned_layers", "New published layers, by source of the whiteouts"),
            bundle_scans: Counters::register(
                r,
                "bundle_scans",
                "Comparisons of the whiteouts in a bundle with the layer",
            ),
            failed_lookups: Counters::register(r, "failed_lookups", "Lookups in repositories that gave no answer"),
            dead_mounts: Counters::register(r, "dead_mounts", "Containers whose layers are in a dead or missing mount"),
            prefetch_requests: Counters::register(r, "prefetch_requests", "Requests to the prefetch daemon"),
            waits: Counters::register(r, "waits", "Containers that waited for their prefetch, by outcome"),
            deferred_removals: Counters::register(
                r,
                "deferred_removals",
                "Directories of removed snapshots that could not be deleted at once",
            ),
            calls,
            registry,
        }
    }

    /// Adds the number of snapshots in `store`, counted whenever the metrics are read.
    pub fn with_snapshots_of(mut self, store: Arc<Store>) -> Self {
        self.registry.register_collector(Box::new(SnapshotCounts(store)));
        self
    }

    /// Starts the timing of a call of containerd.
    pub fn start_call(&self, call: &'static str) -> RunningCall {
        RunningCall { seconds: self.calls.get_or_create(&[("call", call)]).clone(), start: Instant::now() }
    }

    /// All metrics in the text format of OpenMetrics.
    pub fn text(&self) -> String {
        let mut text = String::new();
        if let Err(error) = encode(&mut text, &self.registry) {
            // Writing to a `String` does not fail.
            let _ = writeln!(text, "# {error}");
        }
        text
    }

    /// The counters on one line, for the log: the lines of [`Metrics::text`] without the common prefix.
    pub fn counters(&self) -> String {
        let text = self.text();
        let counters = text.lines().filter_map(|line| line.strip_prefix(PREFIX)?.strip_prefix('_'));
        let counters = counters.filter(|line| line.contains("_total{"));
        counters.map(|line| line.replace(' ', "=")).collect::<Vec<_>>().join(" ")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[derive(Debug)]
struct SnapshotCounts(Arc<Store>);

impl Collector for SnapshotCounts {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let metric_type = ConstGauge::new(0i64).metric_type();
        let mut family = encoder.encode_descriptor("snapshots", "Snapshots, by kind and origin", None, metric_type)?;
        for (kind, origin, count) in self.counts() {
            let labels = [("kind", kind.as_str()), ("origin", origin)];
            ConstGauge::new(count).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

impl SnapshotCounts {
    fn counts(&self) -> [(Kind, &'static str, i64); 4] {
        let mut counts = [
            (Kind::View, "local", 0),
            (Kind::Active, "local", 0),
            (Kind::Committed, "local", 0),
            (Kind::Committed, "cvmfs", 0),
        ];
        self.0.read(|state| {
            for (_, snapshot) in state.iter() {
                let snapshot_origin = match &snapshot.content {
                    Content::Local => "local",
                    Content::Cvmfs(_) => "cvmfs",
                };
                for (kind, origin, count) in &mut counts {
                    *count += i64::from(*kind == snapshot.kind && *origin == snapshot_origin);
                }
            }
        });
        counts
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use super::*;

    const DOCUMENTATION: &str = include_str!("../../docs/src/snapshotter-metrics.md");

    #[test]
    fn the_documentation_lists_every_metric() {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(&directory.path().join("metadata")).unwrap());
        let metrics = Metrics::new().with_snapshots_of(store);
        drop(metrics.start_call("prepare"));
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
        // Labels and their values are in the row of their metric.
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.contains("_bucket")) {
            let metric = base(name(line));
            let row = DOCUMENTATION.lines().find(|row| row.starts_with(&format!("| `{metric}{{"))).unwrap();
            for value in line.split('"').skip(1).step_by(2).filter(|_| !metric.ends_with("_info")) {
                assert!(row.contains(&format!("`{value}`")), "{metric}: {value} is not documented");
            }
            let labels = line.split_once('{').unwrap().1.split(',').map(|label| label.split('=').next().unwrap());
            let labels = labels.collect::<Vec<_>>().join(",");
            assert!(row.contains(&format!("{metric}{{{labels}}}`")), "{metric}: the labels are {labels}");
        }
    }

    #[test]
    fn the_log_line_has_every_counter() {
        let metrics = Metrics::new();
        metrics.waits.increment(WaitOutcome::InTime);
        let counters = metrics.counters();
        for counter in ["layers_total{origin=\"cvmfs\"}=0", "waits_total{outcome=\"in_time\"}=1"] {
            assert!(counters.split(' ').any(|found| found == counter), "{counter} is missing: {counters}");
        }
    }
}
