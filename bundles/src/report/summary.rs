//! Summary of a bundle.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::Serialize;

use super::{Sum, directory, display_path};
use crate::bundle::Bundle;
use crate::object::ObjectKind;
use crate::path::RootPath;
use crate::phase::Phase;

/// Depth of the directories by which files are summed: `/usr/lib`, `/cvmfs/sft.cern.ch`.
pub const DIRECTORY_DEPTH: usize = 2;

/// Figures of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// All objects.
    pub total: Sum,
    /// Objects by repository.
    pub by_repository: BTreeMap<String, Sum>,
    /// Objects by phase of the typical first use.
    pub by_phase: BTreeMap<Phase, Sum>,
    /// Objects by kind.
    pub by_kind: BTreeMap<ObjectKind, Sum>,
    /// Objects of the common section.
    pub common: Sum,
    /// Objects of the profiles' sections, in the bundle's order. An object that several profiles need counts
    /// in each.
    pub by_profile: Vec<(String, Sum)>,
    /// Objects by directory, the largest first.
    pub by_directory: Vec<(RootPath, Sum)>,
    /// Objects in packs.
    pub packed: Sum,
}

impl Summary {
    /// Summarizes `bundle`.
    pub fn new(bundle: &Bundle) -> Self {
        let all = |is_counted: &dyn Fn(&crate::bundle::BundleObject) -> bool| {
            Sum::by(bundle, |object| is_counted(object).then_some(())).remove(&()).unwrap_or_default()
        };
        let profile = |(n, profile): (usize, &crate::bundle::Profile)| {
            (profile.name.clone(), all(&|object| object.need.profiles.has(n)))
        };
        let by_directory = Sum::by(bundle, |object| Some(directory(&display_path(bundle, object), DIRECTORY_DEPTH)));
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
