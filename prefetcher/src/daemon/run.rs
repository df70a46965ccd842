//! What becomes of one request, from its bundle to its tally.

use std::sync::Arc;
use std::time::Duration;

use api::proto::RequestState;
use bundles::bundle::Bundle;
use tracing::info;

use super::Daemon;
use crate::delivery::{Context, Delivery};
use crate::request::tally::{FailureCause, Outcome};
use crate::request::{Request, Running};
use crate::source::{AtHand, Compared, Found, Search, Troubles};

impl Daemon {
    pub(super) async fn run(&self, running: Running, bundle: Option<Box<Bundle>>) {
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
            stored_bytes = tally.of(Outcome::Fetched).stored_bytes,
            raw_bytes = tally.of(Outcome::Fetched).raw_bytes,
            transferred_bytes = tally.transferred_bytes,
            packs = tally.packs,
            "request ended"
        );
    }

    async fn outcome(&self, request: &Request, bundle: Option<Box<Bundle>>) -> RequestState {
        let Some(context) = self.delivery().await else {
            request.error("the daemon was shut down before it knew the settings of its repositories");
            return RequestState::Failed;
        };
        request.set_waiting_for_settings(false);
        let search = match bundle {
            Some(bundle) => Search::Found(Box::new(Found { bundle: *bundle, place: "request".into() })),
            None => match self.sources.at_hand(&request.wanted).await {
                Ok(at_hand) => match self.deliver_at_hand(&context, request, at_hand).await {
                    Ok(state) => return state,
                    Err(search) => search,
                },
                Err(troubles) => self.search(request, troubles).await,
            },
        };
        match search {
            Search::Found(found) => deliver(&context, request, *found).await,
            Search::Absent => RequestState::NoBundle,
            Search::Unsure(why) => {
                request.error(&why);
                if self.shutdown.is_cancelled() { RequestState::Failed } else { RequestState::NoBundle }
            }
            Search::Unusable(why) => {
                request.error(&why);
                RequestState::Failed
            }
        }
    }

    async fn search(&self, request: &Request, troubles: Troubles) -> Search {
        tokio::select! {
            search = self.sources.elsewhere(&request.wanted, troubles) => search,
            () = self.shutdown.cancelled() => Search::Unsure("the daemon was told to stop".into()),
        }
    }

    /// Delivers the bundle that the store has, at once, while its repository is asked whether it is still the one. If it is
    /// not, what is to be done instead.
    async fn deliver_at_hand(
        &self,
        context: &Context,
        request: &Request,
        at_hand: AtHand,
    ) -> Result<RequestState, Search> {
        let AtHand { bundle, known } = at_hand;
        let delivered = deliver(context, request, Found::stored(bundle));
        let compared = async {
            tokio::select! {
                compared = self.sources.compared(&known, &request.wanted) => compared,
                () = self.shutdown.cancelled() => Compared::Same,
            }
        };
        tokio::pin!(delivered, compared);
        let (state, compared) = tokio::select! {
            compared = &mut compared => (None, compared),
            state = &mut delivered => (Some(state), compared.await),
        };
        match (compared, state) {
            (Compared::Same, Some(state)) => Ok(state),
            (Compared::Same, None) => Ok(delivered.await),
            (Compared::Other(found), _) => Err(Search::Found(found)),
            (Compared::Gone, _) => Err(self.search(request, Troubles::default()).await),
        }
    }
}

async fn deliver(context: &Context, request: &Request, found: Found) -> RequestState {
    let plan = found.bundle.plan(Some(request.wanted.profile.as_str()));
    request.found(&found.place, &found.bundle, &plan);
    let name = found.bundle.repository();
    if !context.repositories.contains_key(name) {
        let known: Vec<_> = context.repositories.keys().map(String::as_str).collect();
        request.error(&format!(
            "bundle {} is for repository {name}, which is not configured (only {}); add it to [[repositories]]",
            found.place,
            known.join(", ")
        ));
        return RequestState::Failed;
    }
    let bundle = Arc::new(found.bundle);
    Delivery::new(context, request, &bundle).await.run(&plan).await;
    if request.tally().failed() == 0 { RequestState::Done } else { RequestState::Failed }
}
