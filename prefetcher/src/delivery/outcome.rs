//! Records the outcome of each object of a delivery, exactly once.

use bundles::bundle::ObjectIndex;
use tracing::warn;

use super::Delivery;
use super::refusals::Abandoned;
use crate::fetch::failure::Failure;
use crate::request::Arrival;
use crate::request::tally::{Count, FailureCause, Outcome};

impl Delivery<'_> {
    /// The object was in the cache before.
    pub(super) fn cached(&self, index: ObjectIndex) {
        self.record(index, Outcome::Cached, Count::object(self.bundle.object(index)));
    }

    /// The object was downloaded.
    pub(super) fn downloaded(&self, index: ObjectIndex) {
        self.refusals.arrived();
        let object = self.bundle.object(index);
        let round_trip = self.repository_of(object).and_then(|repository| {
            let routes = &repository.routes;
            routes.concurrency(routes.first()).round_trip()
        });
        self.request.record_arrival(round_trip);
        self.with_allowance(object, |allowance| allowance.written(object.raw_size));
        let arrival = self.request.record(index, Outcome::Fetched, Count::object(object));
        match arrival {
            Arrival::Other => self.preloads.lock().others.push(index),
            Arrival::Critical | Arrival::LastCritical => self.preloads.lock().critical.push(index),
        }
        self.preload_critical_after(arrival);
    }

    /// The object was read through the mount. Its bytes over the network are unknown.
    pub(super) fn read_through_mount(&self, index: ObjectIndex) {
        self.refusals.arrived();
        let object = self.bundle.object(index);
        self.with_allowance(object, |allowance| allowance.written(object.raw_size));
        self.record(index, Outcome::Fetched, Count::ONE);
    }

    /// Another request downloaded the object.
    pub(super) fn joined(&self, index: ObjectIndex) {
        self.refusals.arrived();
        self.record(index, Outcome::Joined, Count::object(self.bundle.object(index)));
    }

    pub(super) fn failed(&self, index: ObjectIndex, failure: &Failure) {
        let object = self.bundle.object(index);
        let Failure { cause, why, .. } = failure;
        warn!(object = %object.hash, path = %object.path, ?cause, error = why, "object failed");
        self.request.error(why);
        self.record(index, Outcome::Failed((*cause).into()), Count::ONE);
        let Some(abandoned) = self.refusals.failed(failure) else { return };
        let refused = self.refusals.total();
        let reason = match abandoned {
            Abandoned::ObjectsMissing => "the servers do not have many objects of this bundle; publish a new one",
            Abandoned::Refused => "servers or proxies refuse objects, or send other bytes",
        };
        warn!(refused, reason, "the rest of the bundle is abandoned");
        self.request.replace_error(&format!("{reason} ({refused} refused, the first: {})", self.request.first_error()));
    }

    /// The objects are not attempted because too many others were refused.
    pub(super) fn abandon(&self, indices: &[ObjectIndex]) {
        self.request.record_all(indices, Outcome::Failed(FailureCause::Abandoned));
    }

    /// The objects were not attempted because the daemon is shutting down.
    pub(super) fn shut_down(&self, indices: &[ObjectIndex]) {
        self.request.error("the daemon is shutting down");
        self.request.record_all(indices, Outcome::Failed(FailureCause::Shutdown));
    }

    pub(super) fn record(&self, index: ObjectIndex, outcome: Outcome, count: Count) {
        self.preload_critical_after(self.request.record(index, outcome, count));
    }

    fn preload_critical_after(&self, arrival: Arrival) {
        if arrival == Arrival::LastCritical {
            self.preload_critical();
        }
    }
}
