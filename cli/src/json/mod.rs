//! What `--json` prints. These types are an interface for scripts: `docs/src/cli-json.md` documents each key, and a
//! test compares the two. `trace show` and `bundle inspect` print the contents of a file, as the formats specify them.

mod bundle;
mod request;
mod store;
#[cfg(test)]
mod tests;
mod trace;

use bundles::image::ImageId;
use serde::Serialize;

pub(crate) use bundle::{
    BuiltBundle, BundleDiff, CheckedGrowth, EvaluatedTrace, Evaluation, Excluded, ExportedBundle, FileChange, Fit,
    ObjectFault, PackedBundle, PulledBundle, PushedBundle, RebasedFrom, VerifiedBundle,
};
pub(crate) use request::{DaemonStatus, Request, RequestId, Tally};
pub(crate) use store::{
    DamagedBundle, ImportedBundles, RemovedBundles, SavedBundle, StoredBundle, StoredBundles, VerifiedStore,
};
pub(crate) use trace::{FileSum, ImportedTrace, LargeFile, RecordedTrace, TraceStats, UsedBy, WatchedTrace};

/// The names of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Image {
    pub(crate) reference: String,
    pub(crate) chain_id: String,
    pub(crate) manifest: Option<String>,
}

impl From<&ImageId> for Image {
    fn from(image: &ImageId) -> Self {
        Self {
            reference: image.reference.clone(),
            chain_id: image.chain_id.to_string(),
            manifest: image.manifest.map(|manifest| manifest.to_string()),
        }
    }
}
