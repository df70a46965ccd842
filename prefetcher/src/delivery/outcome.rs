//! Records the outcome of each object of a delivery, exactly once.

use bundles::bundle::ObjectIndex;
use tracing::warn;

use super::Delivery;
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
        let object = self.bundle.object(index);
        let round_trip = self.repository_of(object).and_then(|repository| {
            let routes = &repository.routes;
            routes.concurrency(routes.first()).round_trip()
        });
        self.request.record_arrival(round_trip);
        let arrival = self.request.record(index, Outcome::Fetched, Count::object(object));
        match arrival {
            Arrival::Other => self.preloads.lock().others.push(index),
            Arrival::Critical | Arrival::LastCritical => self.preloads.lock().critical.push(index),
        }
        self.preload_critical_after(arrival);
    }

    /// The object was read through the mount. Its bytes over the network are unknown.
    pub(super) fn read_through_mount(&self, index: ObjectIndex) {
        self.record(index, Outcome::Fetched, Count::ONE);
    }

    /// Another request downloaded the object.
    pub(super) fn joined(&self, index: ObjectIndex) {
        self.record(index, Outcome::Joined, Count::object(self.bundle.object(index)));
    }

    pub(super) fn failed(&self, index: ObjectIndex, failure: &Failure) {
        let object = self.bundle.object(index);
        let Failure { cause, why, .. } = failure;
        warn!(object = %object.hash, path = %object.path, ?cause, error = why, "object failed");
        self.request.error(why);
        self.record(index, Outcome::Failed((*cause).into()), Count::ONE);
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
