//! Leave-one-out evaluation: each complete trace is held out in turn, a bundle is built from the others, and
//! the trace shows which part of it a start would have used.

use std::collections::HashSet;

use serde::Serialize;

use super::locate::{Located, Source};
use super::{BuildError, Policy, Repositories, Tree, Uses, find, select, weigh, with_stored_sizes};
use crate::bundle::{BundleObject, Need, Share};
use crate::registry::Image;

/// Number of objects and their stored bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Amount {
    /// Number of objects.
    pub objects: u64,
    /// Stored bytes.
    pub bytes: u64,
}

/// How well a part of a bundle fits a start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Fit {
    /// Objects that the start needed.
    pub needed: Amount,
    /// Objects in that part of the bundle.
    pub held: Amount,
    /// Objects in that part that the start needed.
    pub hit: Amount,
}

/// How well a bundle of all other traces fits one held-out trace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HeldOut {
    /// Position of the trace among those given.
    pub trace: usize,
    /// Profile of the trace.
    pub profile: String,
    /// The common section and the profile's section, if the other traces have the profile.
    pub requested: Fit,
    /// The common section alone.
    pub common: Fit,
}

/// Results for all traces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Evaluation {
    /// One entry per complete trace.
    pub traces: Vec<HeldOut>,
    /// Number of incomplete traces, which are not held out: what they miss would look like waste.
    pub incomplete: usize,
}

impl Amount {
    fn add(&mut self, object: &BundleObject) {
        self.objects += 1;
        self.bytes = self.bytes.saturating_add(object.stored_size);
    }

    fn plus(self, other: Self) -> Self {
        Self { objects: self.objects + other.objects, bytes: self.bytes.saturating_add(other.bytes) }
    }
}

impl Fit {
    /// Share of the needed objects that the part has.
    pub fn coverage(&self) -> Share {
        Share::ratio(self.hit.objects, self.needed.objects)
    }

    /// Share of the needed bytes that the part has.
    pub fn byte_coverage(&self) -> Share {
        Share::ratio(self.hit.bytes, self.needed.bytes)
    }

    /// Share of the part's bytes that were not needed.
    pub fn waste(&self) -> Share {
        Share::ratio(self.held.bytes.saturating_sub(self.hit.bytes), self.held.bytes)
    }

    fn plus(self, other: Self) -> Self {
        Self { needed: self.needed.plus(other.needed), held: self.held.plus(other.held), hit: self.hit.plus(other.hit) }
    }
}

impl Evaluation {
    /// Sums over all traces: for the requested sections, and for the common section.
    pub fn total(&self) -> (Fit, Fit) {
        self.traces.iter().fold(Default::default(), |(requested, common): (Fit, Fit), held_out| {
            (requested.plus(held_out.requested), common.plus(held_out.common))
        })
    }
}

/// Evaluates bundles by holding out each complete trace in turn.
pub async fn evaluate(
    image: &Image,
    tree: &Tree,
    uses: &Uses,
    repositories: &mut Repositories,
    policy: &Policy,
) -> Result<Evaluation, BuildError> {
    let (_, located) = find(image, tree, uses, repositories).await?;
    let all = located.objects.iter().map(|object| object.with(Need::always(0))).collect();
    let sizes: Vec<u64> = with_stored_sizes(all, repositories).await?.iter().map(|object| object.stored_size).collect();
    let complete = || uses.traces.iter().enumerate().filter(|(_, trace)| trace.complete);
    let traces = complete().map(|(index, _)| hold_out(index, uses, &located, &sizes, policy)).collect();
    Ok(Evaluation { traces, incomplete: uses.len() - complete().count() })
}

pub(super) fn hold_out(trace: usize, uses: &Uses, located: &Located, sizes: &[u64], policy: &Policy) -> HeldOut {
    let weighed = weigh(uses, located, |index| index != trace, policy);
    let profile = &uses.traces[trace].profile;
    let known = weighed.profiles.iter().position(|known| known.name == *profile);
    let uses_by_trace = |file: usize| uses.uses_of(file).iter().filter(|used| used.trace as usize == trace);
    let mut requested = Fit::default();
    let mut common = Fit::default();
    let mut needed = HashSet::new();
    let mut held = Vec::new();
    for (index, object) in located.objects.iter().enumerate() {
        let with = |need| BundleObject { stored_size: sizes[index], ..object.with(need) };
        let is_source = |source: &Source| uses_by_trace(source.file).any(|used| source.is_needed_by(used, uses));
        if object.always || object.sources.iter().any(is_source) {
            needed.insert((object.hash, object.kind));
            let object = with(Need::always(1));
            [&mut requested, &mut common].into_iter().for_each(|fit| fit.needed.add(&object));
        }
        held.extend(weighed.needs[index].map(with));
    }
    for object in select::select(held, policy).0 {
        let profiles = object.need.profiles;
        let is_common = profiles.is_empty();
        let is_requested = is_common || known.is_some_and(|known| profiles.has(known));
        for (fit, _) in
            [(&mut common, is_common), (&mut requested, is_requested)].into_iter().filter(|(_, is_in)| *is_in)
        {
            fit.held.add(&object);
            if needed.contains(&(object.hash, object.kind)) {
                fit.hit.add(&object);
            }
        }
    }
    HeldOut { trace, profile: profile.clone(), requested, common }
}
