//! Weighing objects: how many starts need each, and when.

use rayon::prelude::*;

use super::locate::{Located, LocatedObject};
use super::uses::{FileUsed, Uses};
use super::{Policy, profiles};
use crate::bundle::{Need, Profile, ProfileSet, Share};
use crate::object::ObjectKind;

/// The needs for objects, according to some of the traces.
#[derive(Debug)]
pub(super) struct Weighed {
    /// The need for each object, in their order; `None` if too few traces need it.
    pub(super) needs: Vec<Option<Need>>,
    /// The profiles that the needs refer to.
    pub(super) profiles: Vec<Profile>,
    /// Number of objects used by too few traces.
    pub(super) rare: u64,
    /// Number of chunks that no trace read.
    pub(super) untouched: u64,
}

/// Number of traces, or of traces that used something.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    complete: u32,
    incomplete: u32,
}

impl Count {
    fn add(&mut self, complete: bool) {
        if complete {
            self.complete += 1;
        } else {
            self.incomplete += 1;
        }
    }

    fn total(self) -> u32 {
        self.complete + self.incomplete
    }

    /// The share of `all` traces. An incomplete trace counts only if it used the object, because it may have
    /// missed the use: so it never lowers a share.
    fn share_of(self, all: Self) -> Share {
        Share::ratio(u64::from(self.total()), u64::from(all.complete) + u64::from(self.incomplete))
    }
}

/// Weighs all objects by the traces for which `chosen` holds.
pub(super) fn weigh(uses: &Uses, located: &Located, chosen: impl Fn(usize) -> bool, policy: &Policy) -> Weighed {
    let traces = || uses.traces.iter().enumerate().filter(|(number, _)| chosen(*number)).map(|(_, trace)| trace);
    let (profiles, known) = profiles::group(traces().map(|trace| trace.profile.as_str()));
    // The profile of each trace, if the trace is chosen.
    let profile_of: Vec<Option<usize>> = uses
        .traces
        .iter()
        .enumerate()
        .map(|(number, trace)| chosen(number).then(|| known.get(&trace.profile).copied()).flatten())
        .collect();
    let mut totals = vec![Count::default(); profiles.len()];
    for (trace, profile) in uses.traces.iter().zip(&profile_of) {
        if let Some(profile) = profile {
            totals[*profile].add(trace.complete);
        }
    }
    let scale = Scale { uses, profile_of: &profile_of, totals: &totals, policy };
    let verdicts: Vec<Result<Need, Unneeded>> =
        located.objects.par_iter().map_init(Vec::new, |scratch, object| scale.weigh(object, scratch)).collect();
    let mut weighed = Weighed { needs: Vec::with_capacity(verdicts.len()), profiles, rare: 0, untouched: 0 };
    for verdict in verdicts {
        match verdict {
            Ok(_) | Err(Unneeded::Unused) => {}
            Err(Unneeded::Rare) => weighed.rare += 1,
            Err(Unneeded::UntouchedChunk) => weighed.untouched += 1,
        }
        weighed.needs.push(verdict.ok());
    }
    weighed
}

/// Why an object is not needed.
#[derive(Debug, Clone, Copy)]
enum Unneeded {
    /// Too few of the traces used it.
    Rare,
    /// A chunk that no trace read.
    UntouchedChunk,
    /// None of the chosen traces used it.
    Unused,
}

struct Scale<'a> {
    uses: &'a Uses,
    profile_of: &'a [Option<usize>],
    totals: &'a [Count],
    policy: &'a Policy,
}

impl Scale<'_> {
    /// Weighs one object. `used` is memory to work in.
    fn weigh(&self, object: &LocatedObject, used: &mut Vec<FileUsed>) -> Result<Need, Unneeded> {
        if object.always {
            return Ok(Need::always(self.totals.iter().map(|count| count.total()).sum()));
        }
        used.clear();
        for source in &object.sources {
            let of_file = self.uses.uses_of(source.file).iter();
            let chosen = of_file.filter(|used| self.profile_of[used.trace as usize].is_some());
            used.extend(chosen.filter(|used| source.is_needed_by(used, self.uses)).copied());
        }
        let unneeded = match object.kind {
            _ if !used.is_empty() => Unneeded::Rare,
            ObjectKind::Chunk => Unneeded::UntouchedChunk,
            _ => Unneeded::Unused,
        };
        self.need(used).ok_or(unneeded)
    }

    /// The need for an object with these uses.
    fn need(&self, used: &mut Vec<FileUsed>) -> Option<Need> {
        // An object may be behind several files; only the first use of each trace counts.
        used.sort_unstable_by_key(|used| (used.trace, used.at_us));
        used.dedup_by_key(|used| used.trace);
        let mut by_profile = vec![Count::default(); self.totals.len()];
        for used in used.iter() {
            if let Some(profile) = self.profile_of[used.trace as usize] {
                by_profile[profile].add(self.uses.traces[used.trace as usize].complete);
            }
        }
        let needed_by: Vec<usize> = (0..by_profile.len())
            .filter(|profile| {
                let count = by_profile[*profile];
                count.total() > 0 && count.share_of(self.totals[*profile]) >= self.policy.min_share
            })
            .collect();
        let profiles = match needed_by.len() {
            0 => return None,
            // What all profiles need goes into the common section.
            count if count == self.totals.len() => ProfileSet::default(),
            _ => needed_by.iter().fold(ProfileSet::default(), |set, profile| set.and(*profile)),
        };
        let sum = |counts: &[Count]| {
            counts.iter().fold(Count::default(), |sum, count| Count {
                complete: sum.complete + count.complete,
                incomplete: sum.incomplete + count.incomplete,
            })
        };
        let total = sum(&by_profile);
        let by_time = |used: &FileUsed| (used.at_us, self.uses.phase(used));
        let first = *used.iter().min_by_key(|used| by_time(used))?;
        let middle = (used.len() - 1) / 2;
        let typical = *used.select_nth_unstable_by_key(middle, by_time).1;
        Some(Need {
            used_in: total.total(),
            share: total.share_of(sum(self.totals)),
            confidence: Share::ALL,
            first_us: first.at_us,
            typical_us: typical.at_us,
            phase: self.uses.phase(&typical),
            profiles,
        })
    }
}
