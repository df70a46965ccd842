//! Results of `bundle`.

use bundles::builder;
use bundles::bundle::{Bundle, Share};
use bundles::report;
use serde::Serialize;

use super::Image;

/// A new bundle: `bundle build` and `bundle rebase`.
#[derive(Debug, Serialize)]
pub(crate) struct BuiltBundle {
    /// Path of the bundle.
    pub(crate) bundle: String,
    pub(crate) image: Image,
    pub(crate) objects: usize,
    /// Bytes to transfer.
    pub(crate) stored_bytes: u64,
    /// Bytes in the cache.
    pub(crate) raw_bytes: u64,
    pub(crate) traces: u32,
    pub(crate) incomplete_traces: u32,
    /// The bundle that this one was made from, for `bundle rebase`.
    pub(crate) rebased_from: Option<RebasedFrom>,
    pub(crate) excluded: Vec<Excluded>,
}

/// What became of the objects of the old bundle.
#[derive(Debug, Serialize)]
pub(crate) struct RebasedFrom {
    pub(crate) image: Image,
    pub(crate) unchanged: u32,
    pub(crate) changed: u32,
    pub(crate) removed: u32,
}

/// Files or objects that a trace names and the bundle does not have.
#[derive(Debug, Serialize)]
pub(crate) struct Excluded {
    pub(crate) count: u64,
    pub(crate) cause: &'static str,
}

impl BuiltBundle {
    pub(crate) fn new(path: &std::path::Path, bundle: &Bundle) -> Self {
        let (stored_bytes, raw_bytes) = bundle.bytes();
        let excluded = bundle.skipped.by_cause().into_iter().filter(|(count, _)| *count > 0);
        Self {
            bundle: path.display().to_string(),
            image: (&bundle.image).into(),
            objects: bundle.objects.len(),
            stored_bytes,
            raw_bytes,
            traces: bundle.traces,
            incomplete_traces: bundle.incomplete_traces,
            rebased_from: bundle.rebased.as_ref().map(|rebased| RebasedFrom {
                image: (&rebased.from).into(),
                unchanged: rebased.unchanged,
                changed: rebased.changed,
                removed: rebased.removed,
            }),
            excluded: excluded.map(|(count, cause)| Excluded { count, cause }).collect(),
        }
    }
}

/// `bundle pack`.
#[derive(Debug, Serialize)]
pub(crate) struct PackedBundle {
    /// Path of the bundle.
    pub(crate) bundle: String,
    pub(crate) objects: usize,
    /// Objects that are in a pack.
    pub(crate) packed_objects: usize,
    /// Paths of the packs that were written.
    pub(crate) new_packs: Vec<String>,
    pub(crate) new_pack_bytes: u64,
    /// Published packs that the bundle uses again.
    pub(crate) reused_packs: usize,
    /// Compressed size of the image's layers, for comparison.
    pub(crate) layer_bytes: u64,
}

/// `bundle diff`.
#[derive(Debug, Serialize)]
pub(crate) struct BundleDiff {
    pub(crate) old: Totals,
    pub(crate) new: Totals,
    pub(crate) added: Vec<FileChange>,
    pub(crate) removed: Vec<FileChange>,
    pub(crate) grown: Vec<FileChange>,
    pub(crate) shrunk: Vec<FileChange>,
    /// Same size, other content.
    pub(crate) changed: Vec<FileChange>,
    /// Files with the same content.
    pub(crate) unchanged_files: u64,
    pub(crate) by_directory: Vec<FileChange>,
}

/// A number of files, their objects, and their bytes in the cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Totals {
    pub(crate) files: u64,
    pub(crate) objects: u64,
    pub(crate) bytes: u64,
}

/// A file or directory before and after.
#[derive(Debug, Serialize)]
pub(crate) struct FileChange {
    pub(crate) path: String,
    pub(crate) old: Totals,
    pub(crate) new: Totals,
}

impl FileChange {
    /// New bytes minus old bytes.
    pub(crate) fn difference(&self) -> i128 {
        i128::from(self.new.bytes) - i128::from(self.old.bytes)
    }
}

impl From<report::Totals> for Totals {
    fn from(totals: report::Totals) -> Self {
        Self { files: totals.files, objects: totals.objects, bytes: totals.bytes }
    }
}

impl From<&report::Change> for FileChange {
    fn from(change: &report::Change) -> Self {
        Self { path: change.path.to_string(), old: change.old.into(), new: change.new.into() }
    }
}

impl From<&report::Diff> for BundleDiff {
    fn from(diff: &report::Diff) -> Self {
        let changes = |changes: &[report::Change]| changes.iter().map(FileChange::from).collect();
        Self {
            old: diff.old.into(),
            new: diff.new.into(),
            added: changes(&diff.added),
            removed: changes(&diff.removed),
            grown: changes(&diff.grew),
            shrunk: changes(&diff.shrank),
            changed: changes(&diff.changed),
            unchanged_files: diff.unchanged,
            by_directory: changes(&diff.by_directory),
        }
    }
}

/// `bundle verify`, and each bundle of `store verify`.
#[derive(Debug, Serialize)]
pub(crate) struct VerifiedBundle {
    pub(crate) image: Image,
    pub(crate) objects: usize,
    pub(crate) faults: Vec<ObjectFault>,
}

/// An object that a server does not have, or not as the bundle names it.
#[derive(Debug, Serialize)]
pub(crate) struct ObjectFault {
    /// Content hash of the object.
    pub(crate) object: String,
    pub(crate) path: String,
    pub(crate) error: String,
}

/// `bundle evaluate`.
#[derive(Debug, Serialize)]
pub(crate) struct Evaluation {
    pub(crate) traces: Vec<EvaluatedTrace>,
    /// Incomplete traces, which are not evaluated.
    pub(crate) incomplete_traces: usize,
    /// All traces together.
    pub(crate) with_profile: Fit,
    /// All traces together.
    pub(crate) common_only: Fit,
}

/// A trace against a bundle of the other traces.
#[derive(Debug, Serialize)]
pub(crate) struct EvaluatedTrace {
    /// Path of the trace.
    pub(crate) trace: String,
    /// Its profile; empty if it has none.
    pub(crate) profile: String,
    /// Prefetching the common section and the section of the trace's profile.
    pub(crate) with_profile: Fit,
    /// Prefetching the common section only.
    pub(crate) common_only: Fit,
}

/// How well the prefetched objects fit a run.
#[derive(Debug, Serialize)]
pub(crate) struct Fit {
    /// What the run needs.
    pub(crate) needed: Amount,
    /// What is prefetched.
    pub(crate) held: Amount,
    /// What is both.
    pub(crate) hit: Amount,
    /// Share of the needed objects that is prefetched.
    pub(crate) coverage: Share,
    /// Share of the needed bytes that is prefetched.
    pub(crate) byte_coverage: Share,
    /// Share of the prefetched bytes that the run does not need.
    pub(crate) waste: Share,
}

/// A number of objects and their bytes to transfer.
#[derive(Debug, Serialize)]
pub(crate) struct Amount {
    pub(crate) objects: u64,
    pub(crate) bytes: u64,
}

impl From<builder::Amount> for Amount {
    fn from(amount: builder::Amount) -> Self {
        Self { objects: amount.objects, bytes: amount.bytes }
    }
}

impl From<&builder::Fit> for Fit {
    fn from(fit: &builder::Fit) -> Self {
        Self {
            needed: fit.needed.into(),
            held: fit.held.into(),
            hit: fit.hit.into(),
            coverage: fit.coverage(),
            byte_coverage: fit.byte_coverage(),
            waste: fit.waste(),
        }
    }
}

/// `bundle push`.
#[derive(Debug, Serialize)]
pub(crate) struct PushedBundle {
    /// Path of the bundle, of the tar file, or the reference of the artifact in the registry.
    pub(crate) location: String,
    /// Tag under which a registry without referrers API lists the bundle.
    pub(crate) fallback_tag: Option<String>,
    /// Older bundles of this image in the registry that this one replaces.
    pub(crate) replaced_bundles: usize,
}

/// `bundle pull`.
#[derive(Debug, Serialize)]
pub(crate) struct PulledBundle {
    /// Path of the bundle.
    pub(crate) bundle: String,
    pub(crate) image: Image,
    pub(crate) objects: usize,
    pub(crate) traces: u32,
}

/// `bundle export`.
#[derive(Debug, Serialize)]
pub(crate) struct ExportedBundle {
    /// Paths of the files that were written.
    pub(crate) outputs: Vec<String>,
    /// Files of the image that the export lists.
    pub(crate) files: usize,
    /// Files whose names the format cannot express.
    pub(crate) inexpressible_files: usize,
    /// Objects that are no files of the image's layers.
    pub(crate) excluded: String,
}

/// `bundle check-growth`: bytes and objects that a start needs.
#[derive(Debug, Serialize)]
pub(crate) struct CheckedGrowth {
    pub(crate) old: Totals,
    pub(crate) new: Totals,
    /// The limit, as in `10%`.
    pub(crate) max_growth: String,
    /// Whether bytes or objects have grown by more.
    pub(crate) exceeded: bool,
    /// Files that have grown, the one that grew most first.
    pub(crate) grown_files: Vec<FileChange>,
}
