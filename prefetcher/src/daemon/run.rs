//! Runs one request, from the lookup of its bundle to its end.

use std::time::Duration;

use api::proto::RequestState;
use tracing::{info, warn};

use super::Daemon;
use crate::bundle_memory::HeldBundle;
use crate::delivery::{Context, Delivered, Delivery};
use crate::request::tally::{FailureCause, Outcome};
use crate::request::{Request, Running};
use crate::source::{FoundBundle, Freshness, Lookup, LookupErrors, Stored};

impl Daemon {
    pub(super) async fn run(&self, running: Running, bundle: Option<HeldBundle>) {
        let request = running.request().clone();
        // Dropping what is on its way is all it takes to give up: who joined it does it again.
        let state = tokio::select! {
            biased;
            state = self.outcome(&request, bundle) => state,
            state = request.given_up() => {
                request.fail_unfinished(FailureCause::Cancelled);
                state
            }
        };
        running.end(state);
        let tally = request.tally();
        self.metrics.ended(&tally);
        let milliseconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64() * 1e3);
        info!(
            state = state.name(),
            error = request.first_error(),
            total = tally.total.objects,
            outcomes = %tally,
            time_to_first_byte_ms = milliseconds(tally.time_to_first_byte),
            time_to_critical_ms = milliseconds(tally.time_to_critical),
            elapsed_ms = milliseconds(tally.elapsed),
            stored_bytes = tally.count(Outcome::Fetched).stored_bytes,
            raw_bytes = tally.count(Outcome::Fetched).raw_bytes,
            transferred_bytes = tally.transferred_bytes,
            packs = tally.packs,
            "request ended"
        );
    }

    async fn outcome(&self, request: &Request, bundle: Option<HeldBundle>) -> RequestState {
        let Some(context) = self.delivery().await else {
            request.error("the daemon was shut down before it knew the settings of its repositories");
            return RequestState::Failed;
        };
        request.set_waiting_for_settings(false);
        let lookup = match bundle {
            Some(bundle) => Lookup::Found(Box::new(FoundBundle::sent(bundle))),
            None => match self.sources.stored_bundle(&request.query).await {
                Ok(stored_bundle) => match self.deliver_stored(&context, request, stored_bundle).await {
                    Ok(state) => return state,
                    Err(lookup) => lookup,
                },
                Err(errors) => self.search(request, errors).await,
            },
        };
        match lookup {
            Lookup::Found(found) => deliver(&context, request, *found).await,
            Lookup::Absent => RequestState::NoBundle,
            Lookup::Incomplete(reason) => {
                request.error(&reason);
                if self.shutdown.is_cancelled() { RequestState::Failed } else { RequestState::NoBundle }
            }
            Lookup::Unusable(reason) => {
                request.error(&reason);
                RequestState::Failed
            }
        }
    }

    async fn search(&self, request: &Request, errors: LookupErrors) -> Lookup {
        tokio::select! {
            lookup = self.sources.find_outside_store(&request.query, errors) => lookup,
            () = self.shutdown.cancelled() => Lookup::Incomplete("the daemon is shutting down".into()),
        }
    }

    /// Delivers a stored bundle at once, while its freshness is checked. If it is not current, returns the lookup that replaces it.
    async fn deliver_stored(
        &self,
        context: &Context,
        request: &Request,
        stored_bundle: Stored,
    ) -> Result<RequestState, Lookup> {
        let Stored { bundle, known } = stored_bundle;
        let delivered = deliver(context, request, FoundBundle::stored(bundle));
        let freshness = async {
            tokio::select! {
                freshness = self.sources.freshness(&known, &request.query) => freshness,
                () = self.shutdown.cancelled() => Freshness::Current,
            }
        };
        tokio::pin!(delivered, freshness);
        let (state, freshness) = tokio::select! {
            freshness = &mut freshness => (None, freshness),
            state = &mut delivered => (Some(state), freshness.await),
        };
        match (freshness, state) {
            (Freshness::Current, Some(state)) => Ok(state),
            (Freshness::Current, None) => Ok(delivered.await),
            (Freshness::Replaced(found), _) => Err(Lookup::Found(found)),
            (Freshness::Removed, _) => Err(self.search(request, LookupErrors::default()).await),
        }
    }
}

async fn deliver(context: &Context, request: &Request, found: FoundBundle) -> RequestState {
    let plan = found.bundle.plan(Some(request.query.profile.as_str()));
    request.found(&found.source, &found.bundle, &plan);
    let name = found.bundle.repository();
    if !context.repositories.contains_key(name) {
        let known: Vec<_> = context.repositories.keys().map(String::as_str).collect();
        request.error(&format!(
            "bundle {} is for repository {name}, which is not configured (only {}); add it to [[repositories]]",
            found.source,
            known.join(", ")
        ));
        return RequestState::Failed;
    }
    let under_delivery = match context.sources.deliver(&found).await {
        Ok(under_delivery) => under_delivery,
        Err(bad) => {
            warn!(error = %bad, "bundle is bad");
            request.error(&bad.to_string());
            request.record_all(&plan, Outcome::Failed(FailureCause::Abandoned));
            return RequestState::Failed;
        }
    };
    let delivery = Delivery::new(context, request, found.bundle.bundle(), plan.len()).await;
    let delivered = delivery.run(&plan).await;
    under_delivery.end(delivered == Delivered::ObjectsMissing).await;
    if request.tally().failed() == 0 { RequestState::Done } else { RequestState::Failed }
}
