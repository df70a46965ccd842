//! From traces to a bundle.
//!
//! 1. [`read`] reads traces side by side; [`collect`] keeps of each which file ([`names`]) it used when, and [`profiles`] what
//!    kind of work it shows; [`uses`] has all of that by file.
//! 2. [`locate`] finds the objects behind those files: [`tree`] says where an image's files are, [`layers`] which layer shows a
//!    path, [`repositories`] are asked for the rest.
//! 3. [`weigh`] says of each object how many starts need it, and when.
//! 4. [`sizes`] asks the servers how large each object is there.
//! 5. [`choose`] keeps what is worth its bytes, in order of expected need.
//! 6. [`marks`] notes what the image's layers delete.
//!
//! [`rebase`] carries a bundle over to another image, [`evaluate`] says how good bundles of some traces are.
//!
//! All of it is counting, sorting and integers: the same traces, in whatever order, give the same bytes.

mod choose;
mod collect;
mod evaluate;
mod layers;
mod locate;
mod marks;
mod names;
mod policy;
mod processors;
mod profiles;
mod read;
mod rebase;
mod repositories;
mod sizes;
#[cfg(test)]
mod tests;
mod tree;
mod uses;
mod weigh;

use tracing::debug;

use crate::bundle::{Bundle, BundleObject, MAX_OBJECTS, Need, Skipped};
use crate::cvmfs::CvmfsError;
use crate::image::registry::Image;

pub use evaluate::{Amount, Evaluation, Fit, LeftOut, evaluate};
use locate::Located;
pub use policy::Policy;
pub use profiles::MAX_NAME as MAX_PROFILE_NAME;
pub use read::TraceFile;
pub use rebase::rebase;
pub use repositories::Repositories;
use sizes::with_stored_sizes;
use tree::Root;
pub use tree::Tree;
pub use uses::Uses;
use weigh::weigh;

/// What containerd itself reads of an image's root file system at every CreateContainer, to find the container's user
/// and groups, before anything runs that a recorder could follow. Source: `oci.WithUser` and `oci.WithAdditionalGIDs`.
const RUNTIME_READS: [&str; 2] = ["/etc/passwd", "/etc/group"];

/// Why a bundle cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// There is nothing to build from.
    #[error("no trace was given: record one with `cvmfs-prefetch record`")]
    NoTraces,
    /// A trace of something else.
    #[error(
        "a trace is of {found} ({reference}), the image is {expected}: record the image again, or name the right one"
    )]
    OtherImage {
        /// Chain ID in the trace.
        found: String,
        /// Reference in the trace.
        reference: String,
        /// Chain ID of the image.
        expected: String,
    },
    /// No layer of the image is published.
    #[error("repository {repository} has no {what}: publish the image there first")]
    NotInRepository {
        /// The repository.
        repository: String,
        /// What of the image it should have.
        what: String,
    },
    /// More than a bundle may hold.
    #[error("the traces lead to {0} objects, a bundle holds at most {MAX_OBJECTS}: give a larger minimum share")]
    TooLarge(usize),
    /// The repository cannot be read.
    #[error(transparent)]
    Cvmfs(#[from] CvmfsError),
}

/// Makes a bundle for `image` out of traces, with the objects that the repositories have for it.
pub async fn build(
    image: &Image,
    tree: &Tree,
    uses: &Uses,
    repositories: &mut Repositories,
    policy: &Policy,
) -> Result<Bundle, BuildError> {
    let (root, located) = find(image, tree, uses, repositories).await?;
    debug!(objects = located.objects.len(), "files looked up");
    let weighed = weigh(uses, &located, |_| true, policy);
    debug!(rare = weighed.rare, "weighed");
    let wanted = located.objects.iter().zip(&weighed.needs).filter_map(|(object, need)| Some((object, (*need)?)));
    let objects: Vec<BundleObject> = wanted.map(|(object, need)| object.with(need)).collect();
    if objects.len() > MAX_OBJECTS {
        return Err(BuildError::TooLarge(objects.len()));
    }
    let sized = with_stored_sizes(objects, repositories).await?;
    debug!(objects = sized.len(), "sizes known");
    let (objects, over_budget) = choose::choose(sized, policy);
    let paths = objects.iter().map(|object| (object.repository, object.path.clone()));
    let catalogs = repositories.catalogs(paths).await?;
    let layers = marks::of_layers(&root, &mut repositories.image).await?;
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
        ..Bundle::of(image.id.clone(), "")
    })
}

/// Where the image is, and the objects behind all files of the traces.
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
