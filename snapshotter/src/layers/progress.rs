//! Agreeing, between a thread and who waits for it, on whether the thread hangs in its first look at the mount. A thread
//! that is only slow in going through a large layer does not hang, nor does one that has to wait for others.

use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Repository;

/// Shared by the two.
#[derive(Debug, Default)]
pub(super) struct Progress(Mutex<Step>);

#[derive(Debug, Default, PartialEq, Eq)]
enum Step {
    #[default]
    Queued,
    Looking,
    Done,
    Abandoned,
}

impl Progress {
    fn step(&self) -> MutexGuard<'_, Step> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Before the first look: whether it is still wanted, and nobody hangs.
    pub(super) fn begin(&self, repository: &Repository) -> bool {
        let mut step = self.step();
        let begins = *step == Step::Queued && repository.hanging.load(Ordering::Acquire) == 0;
        if begins {
            *step = Step::Looking;
        }
        begins
    }

    pub(super) fn looked_up(&self, repository: &Repository) {
        let mut step = self.step();
        if *step == Step::Abandoned {
            repository.hanging.fetch_sub(1, Ordering::AcqRel);
        }
        *step = Step::Done;
    }

    pub(super) fn has_begun(&self) -> bool {
        *self.step() != Step::Queued
    }

    /// Nobody waits any more. Whether the look had begun.
    pub(super) fn give_up(&self, repository: &Repository) -> bool {
        let mut step = self.step();
        let had_begun = *step != Step::Queued;
        if *step == Step::Looking {
            repository.hanging.fetch_add(1, Ordering::AcqRel);
        }
        if *step != Step::Done {
            *step = Step::Abandoned;
        }
        had_begun
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn a_hanging_look_up_is_noted_until_it_ends() {
        let config = config::Repository { name: "r".to_owned(), mount: "/r".into() };
        let repository = Repository::new(&config);
        let hanging = || repository.hanging.load(Ordering::Acquire);
        let [hangs, done, queued, late] = [const { Progress(Mutex::new(Step::Queued)) }; 4];
        assert!(hangs.begin(&repository) && done.begin(&repository));
        // One that waited for others does not hang, and does not look any more.
        assert!(!queued.give_up(&repository));
        assert_eq!(hanging(), 0);
        assert!(!queued.begin(&repository));
        assert!(hangs.give_up(&repository));
        assert_eq!(hanging(), 1);
        assert!(!late.begin(&repository), "nobody is sent after it");
        hangs.looked_up(&repository);
        assert_eq!(hanging(), 0);
        assert!(late.begin(&repository));
        done.looked_up(&repository);
        assert!(done.give_up(&repository), "slow in something else");
        assert_eq!(hanging(), 0);
    }
}
