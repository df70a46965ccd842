//! Building bundles from traces.
//!
//! 1. [`uses`] reads traces on all processors and reduces them to which file each trace used when; [`profiles`] names their workloads.
//! 2. [`locate`] finds the objects behind those files: [`tree`] knows where an image's files are, [`layers`] which layer has a path, and
//!    [`repositories`] answers for files outside the image.
//! 3. [`weigh`] computes for each object how many starts need it, and when.
//! 4. [`sizes`] fetches the objects' stored sizes from the servers.
//! 5. [`select`] keeps the objects that are worth their bytes, in order of expected need.
//! 6. [`whiteouts`] lists what the image's layers delete.
//!
//! [`rebase`] adapts a bundle to another image, [`evaluate`] measures how well bundles of some traces fit the others.
//!
//! Everything is counting, sorting and integers: the same traces, in any order, give the same bytes.

mod evaluate;
mod layers;
mod locate;
mod profiles;
mod rebase;
mod repositories;
mod select;
mod sizes;
#[cfg(test)]
mod tests;
mod tree;
mod uses;
mod weigh;
mod whiteouts;

use tracing::debug;

use crate::bundle::{Bundle, BundleObject, MAX_OBJECTS, Need, Share, Skipped};
use crate::cvmfs::CvmfsError;
use crate::registry::Image;

pub use evaluate::{Amount, Evaluation, Fit, HeldOut, evaluate};
use locate::Located;
pub use profiles::MAX_NAME as MAX_PROFILE_NAME;
pub use rebase::rebase;
pub use repositories::Repositories;
use sizes::with_stored_sizes;
use tree::Root;
pub use tree::Tree;
pub use uses::{TraceFile, Uses};
use weigh::weigh;

/// Files of an image's root file system that containerd itself reads at every CreateContainer, to find the
/// user and groups, before anything runs that a recorder could follow. Source: `oci.WithUser` and
/// `oci.WithAdditionalGIDs`.
const RUNTIME_READS: [&str; 2] = ["/etc/passwd", "/etc/group"];

/// What is worth a place in a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Smallest share of the starts that must use an object; for the section of a profile, of that profile's starts.
    pub min_share: Share,
    /// Transfer budget: most stored bytes of all objects together.
    pub max_bytes: u64,
}

impl Default for Policy {
    /// The share comes from leave-one-out measurements, see `docs/src/benchmarks.md`: a larger one misses objects that some
    /// runs need and saves next to no bytes, because rare objects are small; a smaller one includes what a single run of
    /// many touched. The budget is a quarter of the stock client's cache.
    fn default() -> Self {
        Self { min_share: Share::ratio(1, 4), max_bytes: 1 << 30 }
    }
}

/// A bundle cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// There is nothing to build from.
    #[error("no traces given: record one with `cvmfs-prefetch record`")]
    NoTraces,
    /// A trace is of another image.
    #[error(
        "a trace is of image {found} ({reference}), expected {expected}: record the image again, or name the right image"
    )]
    OtherImage {
        /// Chain ID in the trace.
        found: String,
        /// Image reference in the trace.
        reference: String,
        /// Chain ID of the image to build for.
        expected: String,
    },
    /// No layer of the image is published.
    #[error("repository {repository} has no {what}: publish the image there first")]
    NotInRepository {
        /// The repository that was searched.
        repository: String,
        /// The part of the image that it lacks.
        what: String,
    },
    /// There are more objects than a bundle may have.
    #[error("the traces lead to {0} objects, but a bundle has at most {MAX_OBJECTS}: raise the minimum share")]
    TooLarge(usize),
    /// A repository cannot be read.
    #[error(transparent)]
    Cvmfs(#[from] CvmfsError),
}

/// Builds a bundle for `image` from traces, with the objects that the repositories have for it.
pub async fn build(
    image: &Image,
    tree: &Tree,
    uses: &Uses,
    repositories: &mut Repositories,
    policy: &Policy,
) -> Result<Bundle, BuildError> {
    let (root, located) = find(image, tree, uses, repositories).await?;
    debug!(objects = located.objects.len(), "files located");
    let weighed = weigh(uses, &located, |_| true, policy);
    debug!(rare = weighed.rare, "objects weighed");
    let needed = located.objects.iter().zip(&weighed.needs).filter_map(|(object, need)| Some((object, (*need)?)));
    let objects: Vec<BundleObject> = needed.map(|(object, need)| object.with(need)).collect();
    if objects.len() > MAX_OBJECTS {
        return Err(BuildError::TooLarge(objects.len()));
    }
    let sized = with_stored_sizes(objects, repositories).await?;
    debug!(objects = sized.len(), "stored sizes fetched");
    let (objects, over_budget) = select::select(sized, policy);
    let paths = objects.iter().map(|object| (object.repository, object.path.clone()));
    let catalogs = repositories.catalogs(paths).await?;
    let layers = whiteouts::of_layers(&root, &mut repositories.image).await?;
    let skipped = Skipped { rare: weighed.rare, untouched_chunks: weighed.untouched, over_budget, ..located.skipped };
    Ok(Bundle {
        repositories: located.repositories,
        traces: uses.len() as u32,
        incomplete_traces: uses.traces.iter().filter(|trace| !trace.complete).count() as u32,
        objects,
        profiles: weighed.profiles,
        catalogs,
        layers,
        skipped,
        ..Bundle::new(image.id.clone(), "")
    })
}

/// Finds the image in its repository, and the objects behind all files of the traces.
async fn find(
    image: &Image,
    tree: &Tree,
    uses: &Uses,
    repositories: &mut Repositories,
) -> Result<(Root, Located), BuildError> {
    if uses.is_empty() {
        return Err(BuildError::NoTraces);
    }
    if let Some(trace) = uses.traces.iter().find(|trace| trace.image.chain_id != image.id.chain_id) {
        return Err(BuildError::OtherImage {
            found: trace.image.chain_id.to_string(),
            reference: trace.image.reference.clone(),
            expected: image.id.chain_id.to_string(),
        });
    }
    let mut root = Root::find(tree, image, &mut repositories.image).await?;
    let located = locate::locate(uses, &mut root, repositories).await?;
    Ok((root, located))
}

impl locate::LocatedObject {
    fn with(&self, need: Need) -> BundleObject {
        BundleObject {
            kind: self.kind,
            repository: self.repository,
            offset: self.offset,
            need,
            ..BundleObject::file(self.hash, self.raw_size, self.path.clone())
        }
    }
}
