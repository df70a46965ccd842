//! How much the traces say that each object is needed.

use super::locate::{Located, LocatedObject};
use super::policy::Policy;
use super::processors::side_by_side;
use super::profiles;
use super::uses::{FileUsed, Uses};
use crate::bundle::{Need, Profile, ProfileSet, Share};
use crate::object::ObjectKind;

/// What some of the traces say.
#[derive(Debug)]
pub(super) struct Weighed {
    /// Of each object, in their order; `None` for those that too few need.
    pub(super) needs: Vec<Option<Need>>,
    /// The profiles that the needs speak of.
    pub(super) profiles: Vec<Profile>,
    /// How many objects were used, but by too few.
    pub(super) rare: u64,
    /// How many chunks no trace read anything of.
    pub(super) untouched: u64,
}

/// How many traces there are, or used something, of a kind.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    complete: u32,
    incomplete: u32,
}

impl Count {
    fn add(&mut self, complete: bool) {
        *(if complete { &mut self.complete } else { &mut self.incomplete }) += 1;
    }

    fn total(self) -> u32 {
        self.complete + self.incomplete
    }

    /// The share of `all` traces. An incomplete one counts if it used the object, and not if it did not, for it may have
    /// missed the use: so it never lowers a share.
    fn share_of(self, all: Self) -> Share {
        Share::of(u64::from(self.total()), u64::from(all.complete) + u64::from(self.incomplete))
    }
}

/// Weighs all objects by the traces that are `chosen`.
pub(super) fn weigh(uses: &Uses, located: &Located, chosen: impl Fn(usize) -> bool, policy: &Policy) -> Weighed {
    let traces = || uses.traces.iter().enumerate().filter(|(place, _)| chosen(*place)).map(|(_, traced)| traced);
    let (profiles, places) = profiles::group(traces().map(|traced| traced.profile.as_str()));
    // Of each trace its profile, if it is chosen.
    let profile_of: Vec<Option<usize>> = uses
        .traces
        .iter()
        .enumerate()
        .map(|(place, traced)| chosen(place).then(|| places.get(&traced.profile).copied()).flatten())
        .collect();
    let mut all = vec![Count::default(); profiles.len()];
    for (traced, profile) in uses.traces.iter().zip(&profile_of) {
        if let Some(profile) = profile {
            all[*profile].add(traced.complete);
        }
    }
    let scale = Scale { uses, profile_of: &profile_of, all: &all, policy };
    let mut weighed = Weighed { needs: Vec::with_capacity(located.objects.len()), profiles, rare: 0, untouched: 0 };
    for (need, left_out) in side_by_side(&located.objects, |objects| scale.needs(objects)).into_iter().flatten() {
        weighed.needs.push(need);
        match left_out {
            Some(LeftOut::Rare) => weighed.rare += 1,
            Some(LeftOut::Untouched) => weighed.untouched += 1,
            None => {}
        }
    }
    weighed
}

/// Why an object is not needed.
#[derive(Debug, Clone, Copy)]
enum LeftOut {
    Rare,
    Untouched,
}

struct Scale<'a> {
    uses: &'a Uses,
    profile_of: &'a [Option<usize>],
    all: &'a [Count],
    policy: &'a Policy,
}

impl Scale<'_> {
    fn needs(&self, objects: &[LocatedObject]) -> Vec<(Option<Need>, Option<LeftOut>)> {
        let mut scratch = Vec::new();
        let mut weigh = |object: &LocatedObject| {
            scratch.clear();
            for source in &object.sources {
                let used = self.uses.of_file(source.file).iter();
                let used = used.filter(|used| self.profile_of[used.trace as usize].is_some());
                scratch.extend(used.filter(|used| source.is_needed_by(used, self.uses)).copied());
            }
            let need = match object.always {
                true => Some(Need::always(self.all.iter().map(|count| count.total()).sum())),
                false => self.need(&mut scratch),
            };
            let left_out = match (&need, object.kind) {
                (None, _) if !scratch.is_empty() => Some(LeftOut::Rare),
                (None, ObjectKind::Chunk) => Some(LeftOut::Untouched),
                _ => None,
            };
            (need, left_out)
        };
        objects.iter().map(&mut weigh).collect()
    }

    /// The need of an object with these uses.
    fn need(&self, used: &mut Vec<FileUsed>) -> Option<Need> {
        // One use a trace, the first, though it may have come to the object by several files.
        used.sort_unstable_by_key(|used| (used.trace, used.at_us));
        used.dedup_by_key(|used| used.trace);
        let mut by_profile = vec![Count::default(); self.all.len()];
        for one in used.iter() {
            if let Some(profile) = self.profile_of[one.trace as usize] {
                by_profile[profile].add(self.uses.traces[one.trace as usize].complete);
            }
        }
        let wanted: Vec<usize> = (0..by_profile.len())
            .filter(|place| {
                let count = by_profile[*place];
                count.total() > 0 && count.share_of(self.all[*place]) >= self.policy.min_share
            })
            .collect();
        let profiles = match wanted.len() {
            0 => return None,
            // What all kinds of work need is common.
            count if count == self.all.len() => ProfileSet::default(),
            _ => wanted.iter().fold(ProfileSet::default(), |set, profile| set.and(*profile)),
        };
        let sum = |counts: &[Count]| {
            counts.iter().fold(Count::default(), |sum, count| Count {
                complete: sum.complete + count.complete,
                incomplete: sum.incomplete + count.incomplete,
            })
        };
        let total = sum(&by_profile);
        let in_time = |used: &FileUsed| (used.at_us, self.uses.phase(used));
        let first = *used.iter().min_by_key(|used| in_time(used))?;
        let middle = (used.len() - 1) / 2;
        let typical = *used.select_nth_unstable_by_key(middle, in_time).1;
        Some(Need {
            used_in: total.total(),
            share: total.share_of(sum(self.all)),
            confidence: Share::ALL,
            first_us: first.at_us,
            typical_us: typical.at_us,
            phase: self.uses.phase(&typical),
            profiles,
        })
    }
}
