//! A bundle in figures.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::Serialize;

use super::{Sum, directory, place};
use crate::bundle::Bundle;
use crate::object::ObjectKind;
use crate::path::RootPath;
use crate::trace::Phase;

/// How deep the directories are by which files are summed: `/usr/lib`, `/cvmfs/sft.cern.ch`.
pub const DIRECTORY_DEPTH: usize = 2;

/// A bundle in figures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// All objects.
    pub total: Sum,
    /// By repository.
    pub by_repository: BTreeMap<String, Sum>,
    /// By phase of the typical first use.
    pub by_phase: BTreeMap<Phase, Sum>,
    /// By kind.
    pub by_kind: BTreeMap<ObjectKind, Sum>,
    /// The common part.
    pub common: Sum,
    /// The profiles' parts, in the bundle's order. What several profiles need is in each of theirs.
    pub by_profile: Vec<(String, Sum)>,
    /// By directory, the largest first.
    pub by_directory: Vec<(RootPath, Sum)>,
    /// What is in packs.
    pub packed: Sum,
}

impl Summary {
    /// Sums up `bundle`.
    pub fn of(bundle: &Bundle) -> Self {
        let all = |wanted: &dyn Fn(&crate::bundle::BundleObject) -> bool| {
            Sum::by(bundle, |object| wanted(object).then_some(())).remove(&()).unwrap_or_default()
        };
        let profile = |(n, profile): (usize, &crate::bundle::Profile)| {
            (profile.name.clone(), all(&|object| object.need.profiles.has(n)))
        };
        let by_directory = Sum::by(bundle, |object| Some(directory(&place(bundle, object), DIRECTORY_DEPTH)));
        let mut by_directory: Vec<_> = by_directory.into_iter().collect();
        by_directory.sort_by_key(|(_, sum)| Reverse(sum.raw));
        Self {
            total: all(&|_| true),
            by_repository: Sum::by(bundle, |object| Some(bundle.repository_of(object).to_owned())),
            by_phase: Sum::by(bundle, |object| Some(object.need.phase)),
            by_kind: Sum::by(bundle, |object| Some(object.kind)),
            common: all(&|object| object.need.profiles.is_empty()),
            by_profile: bundle.profiles.iter().enumerate().map(profile).collect(),
            by_directory,
            packed: all(&|object| object.packed.is_some()),
        }
    }
}
