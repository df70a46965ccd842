//! What became of a delivery's objects: each gets into the tally once, and who waits for it is told.

use bundles::bundle::ObjectIndex;
use tracing::warn;

use super::Delivery;
use crate::fetch::failure::Failure;
use crate::request::Arrival;
use crate::request::tally::fail;

impl Delivery<'_> {
    pub(super) fn already_there(&self, index: ObjectIndex) {
        let raw_size = self.bundle.object(index).raw_size;
        self.request.tally(|a| {
            a.cached_objects += 1;
            a.cached_raw_bytes = a.cached_raw_bytes.saturating_add(raw_size);
        });
        self.arrival(self.request.already_there(index));
    }

    pub(super) fn failed(&self, index: ObjectIndex, failure: &Failure) {
        let object = self.bundle.object(index);
        let Failure { cause, why, .. } = failure;
        warn!(object = %object.hash, path = %object.path, ?cause, error = why, "object failed");
        self.request.error(why);
        self.request.tally(|a| fail(a, *cause, 1));
        self.request.missed(index);
    }

    pub(super) fn fetched(&self, index: ObjectIndex) {
        let object = self.bundle.object(index);
        let round_trip = self.repository_of(object).and_then(|repository| {
            let routes = &repository.routes;
            routes.window(routes.first()).round_trip()
        });
        self.request.first_byte();
        self.request.tally(|a| {
            a.round_trip_us = round_trip.map_or(a.round_trip_us, |time| time.as_micros() as u64);
            a.fetched_objects += 1;
            a.fetched_stored_bytes += object.stored_size;
            a.fetched_raw_bytes += object.raw_size;
        });
        let arrival = self.request.delivered(index);
        match arrival {
            Arrival::Other => self.to_read().others.push(index),
            Arrival::Critical | Arrival::LastCritical => self.to_read().critical.push(index),
        }
        self.arrival(arrival);
    }

    /// Somebody brought the object.
    pub(super) fn arrived(&self, index: ObjectIndex) {
        self.arrival(self.request.delivered(index));
    }

    fn arrival(&self, arrival: Arrival) {
        if arrival == Arrival::LastCritical {
            self.read_critical();
        }
    }

    pub(super) fn stopped(&self, indices: &[ObjectIndex]) {
        let objects = indices.len() as u64;
        indices.iter().for_each(|index| self.request.missed(*index));
        self.request.error("the daemon was told to stop");
        self.request.tally(|a| {
            a.failed_objects += objects;
            a.failed_shutdown += objects;
        });
    }
}
