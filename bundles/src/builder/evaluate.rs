//! How good bundles are: each trace is left out in turn, a bundle is made of the others, and the trace says what of it a
//! start would have used.

use std::collections::HashSet;

use serde::Serialize;

use super::locate::{Located, Source};
use super::{BuildError, Policy, Repositories, Tree, Uses, choose, find, weigh, with_stored_sizes};
use crate::bundle::{BundleObject, Need, Share};
use crate::image::registry::Image;

/// How many objects, and how many bytes they have on the servers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Amount {
    /// Objects.
    pub objects: u64,
    /// Bytes.
    pub bytes: u64,
}

/// How well a part of a bundle fits a start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Fit {
    /// What the start needed.
    pub needed: Amount,
    /// What the part holds.
    pub held: Amount,
    /// What it holds that was needed.
    pub hit: Amount,
}

/// What a bundle of all traces but one holds of what that one needed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// The place of the trace among those given.
    pub trace: usize,
    /// Its profile.
    pub profile: String,
    /// The common part and the profile's own, if the other traces show the profile.
    pub asked: Fit,
    /// The common part alone.
    pub common: Fit,
}

/// All traces, each left out once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Evaluation {
    /// One entry for each complete trace.
    pub traces: Vec<LeftOut>,
    /// How many traces were not left out, as they are incomplete: what they miss would look like waste.
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
    /// The share of the needed objects that it holds.
    pub fn coverage(&self) -> Share {
        Share::of(self.hit.objects, self.needed.objects)
    }

    /// The share of the needed bytes that it holds.
    pub fn byte_coverage(&self) -> Share {
        Share::of(self.hit.bytes, self.needed.bytes)
    }

    /// The share of its bytes that were not needed.
    pub fn waste(&self) -> Share {
        Share::of(self.held.bytes.saturating_sub(self.hit.bytes), self.held.bytes)
    }

    fn plus(self, other: Self) -> Self {
        Self { needed: self.needed.plus(other.needed), held: self.held.plus(other.held), hit: self.hit.plus(other.hit) }
    }
}

impl Evaluation {
    /// All traces together: of the parts asked for, and of the common part.
    pub fn total(&self) -> (Fit, Fit) {
        self.traces.iter().fold(Default::default(), |(asked, common): (Fit, Fit), one| {
            (asked.plus(one.asked), common.plus(one.common))
        })
    }
}

/// Leaves out each complete trace in turn.
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
    let traces = complete().map(|(place, _)| leave_out(place, uses, &located, &sizes, policy)).collect();
    Ok(Evaluation { traces, incomplete: uses.len() - complete().count() })
}

pub(super) fn leave_out(trace: usize, uses: &Uses, located: &Located, sizes: &[u64], policy: &Policy) -> LeftOut {
    let weighed = weigh(uses, located, |place| place != trace, policy);
    let profile = &uses.traces[trace].profile;
    let known = weighed.profiles.iter().position(|known| known.name == *profile);
    let used_by_it = |file: usize| uses.of_file(file).iter().filter(|used| used.trace as usize == trace);
    let (mut asked, mut common) = (Fit::default(), Fit::default());
    let (mut needed, mut held) = (HashSet::new(), Vec::new());
    for (place, object) in located.objects.iter().enumerate() {
        let with = |need| BundleObject { stored_size: sizes[place], ..object.with(need) };
        let is_source = |source: &Source| used_by_it(source.file).any(|used| source.is_needed_by(used, uses));
        if object.always || object.sources.iter().any(is_source) {
            needed.insert((object.hash, object.kind));
            let object = with(Need::always(1));
            [&mut asked, &mut common].into_iter().for_each(|fit| fit.needed.add(&object));
        }
        held.extend(weighed.needs[place].map(with));
    }
    for object in choose::choose(held, policy).0 {
        let profiles = object.need.profiles;
        let is_common = profiles.is_empty();
        let is_asked = is_common || known.is_some_and(|known| profiles.has(known));
        for (fit, _) in [(&mut common, is_common), (&mut asked, is_asked)].into_iter().filter(|(_, is_in)| *is_in) {
            fit.held.add(&object);
            if needed.contains(&(object.hash, object.kind)) {
                fit.hit.add(&object);
            }
        }
    }
    LeftOut { trace, profile: profile.clone(), asked, common }
}
