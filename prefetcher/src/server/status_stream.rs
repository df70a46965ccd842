//! A request's status again and again, until it has ended.

use std::sync::Arc;
use std::time::Duration;

use api::proto::{RequestState, RequestStatus};
use futures::{Stream, stream};
use tonic::Status;

use crate::request::Request;

/// What the next status is.
enum Next {
    Now,
    AfterInterval,
    /// The last one was told.
    Nothing,
}

/// Now, after each interval, and at the end.
pub(super) fn statuses(
    request: Arc<Request>,
    interval: Duration,
) -> impl Stream<Item = Result<RequestStatus, Status>> + Send {
    stream::unfold((request, Next::Now), move |(request, next)| async move {
        let status = match next {
            Next::Now => request.status(),
            Next::AfterInterval => match tokio::time::timeout(interval, request.ended()).await {
                Ok(last) => last,
                Err(_) => request.status(),
            },
            Next::Nothing => return None,
        };
        let next = if status.state() == RequestState::Running { Next::AfterInterval } else { Next::Nothing };
        Some((Ok(status), (request, next)))
    })
}
